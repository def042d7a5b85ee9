"""Print the listing, and which models' weights each node has, as one JSON document.

pyinfra -y inventories/spark.py deploys/models.py

stdout holds the document alone: its fields are described in cluster/reports/listing.py.
"""

from pyinfra import host

from control import models, run

run.shared(host.state, models.print_models)

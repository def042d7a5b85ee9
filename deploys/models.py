"""Print the listing, and which models' weights each node has, as one JSON document.

pyinfra -y inventories/spark.py deploys/models.py

stdout holds the document alone: its fields are described in cluster/catalogue.py.
"""

from pyinfra import host

from deploys.once import once
from deploys.stock import show

once(host.state, show)

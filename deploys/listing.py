"""Print what runs where, and how to reach it, as one JSON document; changes nothing.

pyinfra -y inventories/spark.py deploys/listing.py
pyinfra -y @local deploys/listing.py --data light=inventories/spark.py    reads no node

stdout holds the document alone: its fields are described in cluster/reports/listing.py.
"""

from pyinfra import host

from control import listing, run

run.shared(host.state, listing.print_listing)

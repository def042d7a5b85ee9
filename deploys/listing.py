"""Print what runs where, and how to reach it, as one JSON document; changes nothing.

pyinfra -y inventories/spark.py deploys/listing.py
pyinfra -y @local deploys/listing.py --data light=inventories/spark.py    asks no node at all

stdout holds the document alone: its fields are described in cluster/reports/listing.py.
"""

from pyinfra import host

from control.listing import print_listing
from control.run import shared

shared(host.state, print_listing)

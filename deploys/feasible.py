"""Print which settings a deploy would refuse, as one JSON document; asks no node at all.

pyinfra -y @local deploys/feasible.py --data light=INVENTORY --data 'cases=[{"model": 6}, …]'

stdout holds the document alone: its fields are described in cluster/reports/feasible.py.
"""

from pyinfra import host

from control.listing import print_feasible
from control.shared import shared

shared(host.state, print_feasible)

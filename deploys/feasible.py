"""Print which settings a deploy would refuse, as one JSON document; asks no node at all.

pyinfra -y @local deploys/feasible.py --data light=INVENTORY --data 'cases=[{"model": 6}, …]'

stdout holds the document alone: its fields are described in cluster/reports/feasible.py.
"""

from pyinfra import host

from control.feasible import print_feasible
from control.run import shared

shared(host.state, print_feasible)

"""Print which settings a deploy would refuse, as one JSON document; reads no node.

pyinfra -y @local deploys/feasible.py --data light=INVENTORY --data 'cases=[{"model": 6}, …]'

stdout holds the document alone: its fields are described in cluster/reports/feasible.py.
"""

from pyinfra import host

from control import feasible, run

run.shared(host.state, feasible.print_feasible)

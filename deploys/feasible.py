"""Print which settings a deploy would refuse, as one JSON document; asks no node at all.

pyinfra -y @local deploys/feasible.py --data light=INVENTORY --data 'cases=[{"model": 6}, …]'

stdout holds the document alone: its fields are described in cluster/feasible.py.
"""

from pyinfra import host

from deploys.inventory import try_out
from deploys.once import once

once(host.state, try_out)

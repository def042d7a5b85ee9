"""Print what is wrong with the cluster as one JSON document; changes nothing.

pyinfra -y @local deploys/doctor.py --data inventory=inventories/spark.py

stdout holds the document alone: its fields are described in cluster/doctor.py.
"""

from pyinfra import host

from deploys.ailments import show
from deploys.once import once

once(host.state, show)

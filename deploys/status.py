"""Print the group's state as one JSON document; changes nothing, and no dead node ends it.

pyinfra -y @local deploys/status.py --data inventory=inventories/spark.py

stdout holds the document alone: its fields are described in cluster/reports/status.py.
"""

from pyinfra import host

from control import run, status

run.shared(host.state, status.print_status)

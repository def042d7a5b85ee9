"""Print what no group uses any more, by node, as one JSON document; changes nothing.

pyinfra -y inventories/spark.py deploys/unused.py

stdout holds the document alone: its fields are described in cluster/reports/unused.py.
"""

from pyinfra import host

from control import prune, run

run.shared(host.state, prune.print_unused)

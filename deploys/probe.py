"""Print what an inventory's nodes are like, as one JSON document; changes nothing.

pyinfra -y @local deploys/probe.py --data inventory=FILE

Nodes that can't be reached are in the document, and do not end the run. stdout holds the document
alone: its fields are described in cluster/reports/probe.py.
"""

from pyinfra import host

from control import probe, run

run.shared(host.state, probe.print_probe)

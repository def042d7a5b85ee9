"""Print what is wrong with the cluster as one JSON document; changes nothing.

pyinfra -y @local deploys/doctor.py --data inventory=inventories/spark.py

stdout holds the document alone: its fields are described in cluster/reports/doctor.py.
"""

from pyinfra import host

from control.doctor import print_report
from control.run import shared

shared(host.state, print_report)

"""Print what is wrong with the cluster as one JSON document; changes nothing.

pyinfra -y @local deploys/doctor.py --data inventory=inventories/spark.py

stdout holds the document alone: its fields are described in cluster/reports/doctor.py.
"""

from pyinfra import host

from control import doctor, run

run.shared(host.state, doctor.print_report)

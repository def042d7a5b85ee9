"""Check everything that a deploy needs, and change nothing.

pyinfra -y inventories/spark.py deploys/check.py

Ends with exit code 1 if a deploy would be refused.
"""

from pyinfra import host

from control import check, run

run.shared(host.state, check.check_deploy)

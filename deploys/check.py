"""Check everything that a deploy needs, and change nothing.

pyinfra -y inventories/spark.py deploys/check.py

Ends with exit code 1 if a deploy would be refused.
"""

from pyinfra import host

from control.check import check_deploy
from control.run import shared

shared(host.state, check_deploy)

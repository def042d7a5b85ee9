"""Query every endpoint of what runs, and show how to use it; changes nothing.

pyinfra -y inventories/spark.py deploys/verify.py

Ends with exit code 1 if a rank or an endpoint does not answer as it must.
"""

from pyinfra import host

from control import run, verify

run.shared(host.state, verify.verify_endpoints)

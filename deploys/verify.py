"""Query every endpoint of what runs, and show how to use it; changes nothing.

pyinfra -y inventories/spark.py deploys/verify.py

Ends with exit code 1 if a rank or an endpoint does not answer as it must.
"""

from pyinfra import host

from control.run import shared
from control.verify import verify_endpoints

shared(host.state, verify_endpoints)

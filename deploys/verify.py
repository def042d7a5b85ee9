"""Query every endpoint of what runs, probe its answers, and show how to use it; changes nothing.

pyinfra -y inventories/spark.py deploys/verify.py

Ends with exit code 1 if a rank or an endpoint does not answer as it must, or the model's answers to
the probes are wrong.
"""

from pyinfra import host

from control import run, verify

run.shared(host.state, verify.verify_endpoints)

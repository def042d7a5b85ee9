"""Ask every endpoint of what runs, and say how to use it; changes nothing.

pyinfra inventories/spark.py deploys/verify.py
"""

from pyinfra import host

from deploys.endpoints import verified

verified(host)

"""Have the group watched on every node, and restarted as a whole where it no longer serves.

pyinfra -y inventories/spark.py deploys/watchdog.py
pyinfra -y inventories/spark.py deploys/watchdog.py --data watchdog=off

It watches whatever model deploy.py starts: run it again when nodes or addresses change, or
watchdog_port, memory_floor or ready_timeout.
"""

from pyinfra import host

from control.watchdog import watchdog_changes
from operations import watchdog

watchdog.converged(name="Watchdog", change=watchdog_changes(host)[host.name])

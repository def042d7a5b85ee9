"""Remove from every node what no group uses: weights, drafts, images and compile caches.

pyinfra inventories/spark.py deploys/prune.py --dry     shows what, with sizes
pyinfra -y inventories/spark.py deploys/prune.py

Only what a deploy has brought: what has no such record is listed and left. What the inventory
declares stays, and so does what any group on a node has in a container, running or not.
"""

from pyinfra import host

from control import run
from control.prune import plan_prune
from operations import prune

removals = run.shared(host.state, plan_prune)
prune.unused_removed(name="What no group uses", removal=removals.get(host.name))

"""Give both halves of the cabled QSFP port their addresses, by netplan, on every node.

pyinfra inventories/spark.py deploys/network.py --dry --diff
pyinfra -y inventories/spark.py deploys/network.py

A node that does not answer afterwards, or does not reach its peers, reverts by itself. The
interface that SSH uses is never touched. Needs a login that can become root without a password.
"""

from io import StringIO

from pyinfra import host
from pyinfra.operations import files

from cluster.node.netplan import FILE
from control.network import plan_network
from operations import network as net

run = plan_network(host)

net.armed(
    name="Revert unless every check passes", halves=run.halves(host), needed=run.changes(host)
)
if run.halves(host):
    files.put(
        name=FILE,
        src=StringIO(run.texts[host.name]),
        dest=FILE,
        user="root",
        group="root",
        mode="600",
        create_remote_dir=False,
        _sudo=True,
    )
net.applied(
    name="Apply the change, and reach every node again",
    change=run.change if run.leads(host) else None,
)

"""Which ufw rules a node must have, which of its rules are ours, and what stands in the way.

SSH first; between the nodes all TCP and RoCE v2, by each fabric address; the API for the networks
named. What is ours carries our comment: nothing else is ever changed.
"""

from cluster.node.firewall.change import Change, absence, changes
from cluster.node.firewall.obstacles import problems
from cluster.node.firewall.owners import WAS_OFF
from cluster.node.firewall.place import Place, peer_addresses
from cluster.node.firewall.wanted import rules

__all__ = [
    "WAS_OFF",
    "Change",
    "Place",
    "absence",
    "changes",
    "peer_addresses",
    "problems",
    "rules",
]

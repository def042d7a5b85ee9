"""Which interfaces, HCAs and addresses carry the traffic between the nodes, and why.

A Spark's QSFP port shows as two halves (twins), each an HCA of half the rate. Full rate takes both
halves of the cabled port, each in a subnet of its own. Nothing here depends on the order in which
a node lists its interfaces.
"""

from cluster.fabric.choose import Fabric, NodeFabric, choose_fabric
from cluster.fabric.overrides import FabricOptions, NodeOverrides

__all__ = ["Fabric", "FabricOptions", "NodeFabric", "NodeOverrides", "choose_fabric"]

"""Everything that must be in order before a deploy changes anything."""

from cluster.checks.launch import check_launch
from cluster.checks.nodes import Needs, check_nodes, needs_of

__all__ = ["Needs", "check_launch", "check_nodes", "needs_of"]

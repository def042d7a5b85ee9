"""Everything that must be right before a deploy changes anything: what, where, and the cure."""

from cluster.checks.launch import check_launch
from cluster.checks.nodes import Needs, check_nodes, needs_of

__all__ = ["Needs", "check_launch", "check_nodes", "needs_of"]

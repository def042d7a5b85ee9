"""Everything that must be right before a deploy changes anything: what, where, and the cure."""

from cluster.checks.launch import launch
from cluster.checks.needs import Needs
from cluster.checks.preflight import preflight

__all__ = ["Needs", "launch", "preflight"]

"""What is wrong with a cluster, from all that was read of it: cause, evidence, cure."""

from cluster.doctor.group import group
from cluster.doctor.nodes import disks, engines, silent
from cluster.doctor.report import Ailment, Report, checked, placed, report
from cluster.doctor.words import Words, leftovers, logs

__all__ = [
    "Ailment",
    "Report",
    "Words",
    "checked",
    "disks",
    "engines",
    "group",
    "leftovers",
    "logs",
    "placed",
    "report",
    "silent",
]

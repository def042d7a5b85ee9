"""What the checks find wrong with a launch over healthy Sparks."""

from __future__ import annotations

from typing import Any

from samples import VERSION, spark, want

from cluster.catalog.models import find_model
from cluster.checks import Needs, check_launch
from cluster.findings import Finding, Level
from cluster.node.readings import MemoryReading, NodeFacts

GIB = 2**30


SPARK = MemoryReading(131_334_144 * 1024, 110 * GIB)


def nodes(count: int = 2) -> list[NodeFacts]:
    return [spark(i, memory=SPARK) for i in range(count)]


def findings(
    *facts: NodeFacts, count: int = 2, version: str = VERSION, ours: str = "", **data: Any
) -> list[Finding]:
    """Findings over healthy Sparks."""
    facts = facts or tuple(nodes(count))
    wanted = want(len(facts), **data)
    needs = Needs(our_names=frozenset({ours}))
    every = list(check_launch(wanted, find_model(wanted.common.model), facts, needs, version))
    assert all(f.cure for f in every if f.level is Level.ERROR)
    return every


def check_declared(*facts: NodeFacts, **more: Any) -> list[str]:
    """The same as "level what -> cure"."""
    return [f"{f.level.value} {f}" for f in findings(*facts, **more)]

"""What each rank says that it has allocated, beside what the memory table computes for it."""

from collections.abc import Mapping

from pyinfra.api import Host

from cluster.catalog.memory import memory_table
from cluster.checks.declared_use import declared_use
from cluster.engine.allocation import Allocation, allocation_rows
from cluster.plan.decide import Decision
from facts.serving import RankAllocation
from operations import shell

SECONDS = 60


def memory_of_ranks(decision: Decision, hosts: Mapping[str, Host]) -> list[str]:
    """A line for each part of each rank's memory that its log names: "memory of NODE: …".

    Nothing if another launch is declared than the one that runs, or without a container.

    + hosts: those that can be reached, at least
    """
    ranks = {name: rank for name, rank in decision.running_ranks.items() if name in hosts}
    facts = [decision.facts[name] for name in ranks]
    total = min((node.memory.total for node in facts if node.memory), default=None)
    docker = decision.running and decision.settings.runtime == "docker"
    if decision.refusal or decision.plan.restart or not docker or total is None:
        return []
    use = declared_use(decision.declaration, decision.model, facts, decision.version)
    table, fact = memory_table(decision.model, total, use), RankAllocation()
    allocations = shell.on_all(
        [hosts[name] for name in ranks],
        lambda host: shell.read_fact(host, fact, fact.command(ranks[host.name].called), SECONDS),
    )
    return [
        f"memory of {name}: {line}"
        for name, reading in allocations.items()
        for line in allocation_rows(reading.value or Allocation(), table)
    ]

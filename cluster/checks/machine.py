"""The machines themselves: identity, memory, clocks, and how fast their shells start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cluster.checks.needs import Needs, size
from cluster.findings import Finding, error, ok, warning
from cluster.node.readings import NodeFacts

IDLE_SHARE = 0.8
"""An idle Spark has ~101 of its 121.6 GiB available."""
CLOCK_SECONDS = 2.0
"""More than the spread of one round of readings over SSH; logs of the ranks stay comparable."""
SHELL_SECONDS = 0.3
"""A plain shell answers over SSH in a few hundredths; pyenv or conda in ~/.bashrc cost this."""


def same_machine(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Two names of one machine: its ranks would fight for ports and memory."""
    first: dict[str, str] = {}
    for node in nodes:
        other = first.setdefault(node.machine_id, node.name) if node.machine_id else node.name
        if other != node.name:
            what = f"is the same machine as {other} (machine-id {node.machine_id})"
            cure = (
                f"take {node.name} out of the inventory, or give a cloned system its own: "
                "sudo rm /etc/machine-id && sudo systemd-machine-id-setup"
            )
            yield error(what, node.name, cure)


def memory(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """Most of it free; what our own rank holds comes free when it stops."""
    if not node.memory:
        return
    total, available = node.memory.total, node.memory.available
    ours = any(r.alive and (r.label is not None or r.name in needs.our_names) for r in node.ranks)
    told = f"{size(available)} of {size(total)} memory available"
    top = "ps -eo rss,pid,args --sort=-rss | head"
    if available < IDLE_SHARE * total and not ours:
        guard = "sudo apt-get install earlyoom keeps a node that runs out from freezing"
        yield warning(f"{told}: other programs take the rest", node.name, f"{top}; {guard}")
    else:
        yield ok(told, node.name)


def clocks(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Each clock against the head's, as the nodes told them at nearly the same moment."""
    seconds = {n.name: n.clock for n in nodes if n.clock}
    known = list(seconds)
    for name in known[1:]:
        ahead = seconds[name] - seconds[known[0]]
        if abs(ahead) > CLOCK_SECONDS:
            way = "ahead of" if ahead > 0 else "behind"
            what = f"its clock is {abs(ahead):.1f} s {way} {known[0]}'s"
            yield warning(what, name, "sudo timedatectl set-ntp true; timedatectl status")
        else:
            yield ok(f"its clock agrees with {known[0]}'s", name)


def shell(latency: Mapping[str, float]) -> Iterator[Finding]:
    """A profile that every remote command waits for."""
    for name, seconds in latency.items():
        told = f"a trivial command over SSH takes {seconds:.2f} s"
        if seconds > SHELL_SECONDS:
            cure = (
                "see `time bash -ic true` there, and move what ~/.bashrc starts (pyenv, conda, nvm)"
                " behind a first line `[[ $- == *i* ]] || return`"
            )
            yield warning(f"{told}, and a deploy waits for each", name, cure)
        else:
            yield ok(told, name)

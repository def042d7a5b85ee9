"""Ranks of the process runtime: plain processes that carry their name and spec as arguments."""

import json
import re

from cluster.command import load_script
from cluster.node.readings import Rank
from cluster.rank.process import LABEL, NAME
from facts.fact import Fact

_READ = load_script(__file__, "scripts/processes.sh")


class Processes(Fact[list[Rank]]):
    """Every running rank of the process runtime, by name. One that ended leaves no trace."""

    default = staticmethod(list[Rank])

    def command(self) -> str:
        return _READ

    def parse(self, output: list[str]) -> list[Rank]:
        ranks: list[tuple[str, Rank]] = []
        for line in output:
            if len(fields := line.split("\t", 3)) != 4 or not fields[0].isdecimal():
                continue
            pid, parent, start, arguments = fields
            name = re.search(rf" {NAME}(\S+)", arguments)
            # The JSON after our marker, as it stands; a shell that merely quotes such a command has
            # none.
            after = arguments.partition(f" {LABEL}")[2]
            try:
                _, end = json.JSONDecoder().raw_decode(after)
            except (ValueError, RecursionError):
                continue
            if name:
                rank = Rank(name[1], pid, "running", label=after[:end], started_at=start)
                ranks.append((parent, rank))
        pids = {(rank.name, rank.id) for _, rank in ranks}
        # A fork keeps its parent's arguments until it runs something else.
        first = (rank for parent, rank in ranks if (rank.name, parent) not in pids)
        return sorted(first, key=lambda rank: (rank.name, rank.id))

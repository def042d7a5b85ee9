"""The part of a rank's log that a diagnosis reads."""

from dataclasses import dataclass

from pyinfra.api import QuoteString, StringCommand

from cluster.engine.log import TRANSPORT_PATTERN
from cluster.node.readings import Shown
from cluster.rank.runtime import runtime_of
from facts.fact import Fact, join, quote

# Of an engine that serves for days, most lines are its batches.
LINES = 20_000
KEPT = 4_000
BATCHES = r"(Decode|Prefill) batch"
# server_args is one line of 30,000 characters; of those behind COLUMNS, one argument tells whose
# files may be missing.
COLUMNS = 2_000
DRAFT = r"s/(server_args=).*(speculative_draft_model_path='[^']*').*/\1\2/"
SECONDS = 20


@dataclass(frozen=True)
class RankWords(Shown):
    """+ lines: since its last start, without batches; transport: NCCL's lines about it."""

    lines: tuple[str, ...] = ()
    transport: tuple[str, ...] = ()


class RankLog(Fact[RankWords]):
    """What a rank said.

    + runtime, rank: how it is run, and what its container is called
    + earlier: of all its lives, not just the last
    """

    @staticmethod
    def default() -> RankWords:
        return RankWords()

    def command(self, runtime: str, rank: str, earlier: bool = False) -> StringCommand:
        words = runtime_of(runtime).logs(rank, LINES, earlier=earlier)
        log = join(quote(("timeout", str(SECONDS), *words.bounded)), " 2>&1")
        filtered = join(
            *(log, " | grep -avE ", QuoteString(BATCHES), f" | tail -n {KEPT} | sed -E "),
            *(QuoteString(DRAFT), f" | cut -c -{COLUMNS} | sed 's/^/log /'\n"),
        )
        if runtime != "docker":
            return join(filtered, ":")
        # NCCL says it once, at the start: long before the last lines.
        began = quote(("docker", "inspect", "--format", "{{.State.StartedAt}}", rank))
        all_of_it = join(
            f'timeout {SECONDS} docker logs --since "$(', began, ')" ', QuoteString(rank)
        )
        pick = quote(("grep", "-a", "-m", "20", "-E", TRANSPORT_PATTERN))
        return join(filtered, all_of_it, " 2>&1 | ", pick, " | sed 's/^/nccl /'; :")

    def parse(self, output: list[str]) -> RankWords:
        return RankWords(
            lines=tuple(line[4:] for line in output if line.startswith("log ")),
            transport=tuple(line[5:] for line in output if line.startswith("nccl ")),
        )

"""What one rank answers right now, in one command of bounded time."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from msgspec import Struct
from pyinfra.api import QuoteString, StringCommand

from cluster.node.readings import Shown
from cluster.status import Load
from facts.fact import UNEXPECTED, Fact, decimal
from facts.metrics import Metrics
from facts.serving import curl, http_status, last_lines
from facts.shell import joined

# SGLang's /health generates a token: about a second where nothing else runs.
SECONDS = 5
LOG_LINES = 80
LOG_SECONDS = 3


@dataclass(frozen=True)
class RankAnswers(Shown):
    """One rank's answers.

    + health: HTTP status of /health, 0 where nothing answered in time
    + models_status, models: of /v1/models, which the head alone has; 0 where it was not asked
    + seconds: since a process began; None for a container
    + log: its last lines
    + lost: why it could not be asked, "" where it could
    """

    health: int = 0
    models_status: int = 0
    models: tuple[str, ...] = ()
    load: Load = field(default_factory=Load)
    seconds: float | None = None
    log: tuple[str, ...] = ()
    lost: str = ""


class Answers(Fact[RankAnswers]):
    """A rank's health, and the last lines of its log; of the head also the model and the load.

    + url: where it serves, as its own node reaches it
    + rank: its name, "" where it has no log to be read
    + pid: of a process, to learn its age
    """

    def command(
        self, url: str, runtime: str, rank: str, head: bool = False, pid: str = ""
    ) -> StringCommand:
        asked = [joined("printf 'health %s\\n' \"$(", curl(f"{url}/health", SECONDS), ')" &\n')]
        if head:
            models = curl(f"{url}/v1/models", SECONDS, before=" ")
            one_line = "| tr '\\n' ' '"
            asked.append(
                joined("printf 'models %s\\n' \"$( { ", models, "; } ", one_line, ')" &\n')
            )
        if pid:
            age = joined("$(ps -o etimes= -p ", QuoteString(pid), ")")
            asked.append(joined("printf 'age %s\\n' \"", age, '" &\n'))
        told = joined(*_metrics(url, head), *_log(runtime, rank))
        # Held back until the rest is told: what a program writes by blocks would end up in the
        # middle of others' lines.
        return joined(*asked, "rest=$(\n", told, ")\nwait\nprintf '%s\\n' \"$rest\"")

    def parse(self, output: list[str]) -> RankAnswers:
        told: dict[str, list[str]] = {}
        for line in output:
            kind, _, rest = line.partition(" ")
            told.setdefault(kind, []).append(rest)
        status, models = _models(next(iter(told.get("models", ())), ""))
        age = next(iter(told.get("age", ())), "").strip()
        return RankAnswers(
            health=http_status(next(iter(told.get("health", ())), "")),
            models_status=status,
            models=models,
            load=Metrics().process(told.get("metric", ())),
            seconds=decimal(age) if age else None,
            log=tuple(told.get("log", ())),
        )


def _metrics(url: str, head: bool) -> list[StringCommand]:
    """In the background, and alone in writing until `wait`."""
    words = Metrics().command(url, SECONDS)
    return [joined("{ ", words, "; } | sed 's/^/metric /' &\n")] if head else []


def _log(runtime: str, rank: str) -> list[StringCommand]:
    if not rank:
        return [joined("wait\n")]
    told = last_lines(runtime, rank, LOG_LINES, LOG_SECONDS)
    lines = joined("log=$(", told, " | sed 's/^/log /')\n")
    return [lines, joined("wait\nprintf '%s\\n' \"$log\"\n")]


class _Entry(Struct):
    id: str


class _Listed(Struct):
    """What we read of /v1/models."""

    data: tuple[_Entry, ...] | None = None


def _models(said: str) -> tuple[int, tuple[str, ...]]:
    """curl's words: the body, its status, the seconds."""
    body, *numbers = ["", *said.rsplit(None, 2)][-3:]
    try:
        listed = msgspec.json.decode(body, type=_Listed)
    except UNEXPECTED:
        listed = _Listed()
    return http_status(" ".join(numbers)), tuple(entry.id for entry in listed.data or ())

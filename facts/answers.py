"""What one rank answers right now, in one command of bounded time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase, QuoteString, StringCommand

from cluster.node import Shown
from cluster.orders import runtime as runtime_of
from cluster.status import Load
from facts.metrics import Metrics
from facts.serving import curl
from facts.shell import joined, quoted

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


class Answers(FactBase[RankAnswers]):
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

    def process(self, output: Iterable[str]) -> RankAnswers:
        told: dict[str, list[str]] = {}
        for line in output:
            kind, _, rest = line.partition(" ")
            told.setdefault(kind, []).append(rest)
        status, models = _models(next(iter(told.get("models", ())), ""))
        age = next(iter(told.get("age", ())), "").strip()
        return RankAnswers(
            health=_status(next(iter(told.get("health", ())), "")),
            models_status=status,
            models=models,
            load=Metrics().process(told.get("metric", ())),
            seconds=float(age) if age else None,
            log=tuple(told.get("log", ())),
        )


def _metrics(url: str, head: bool) -> list[StringCommand]:
    """In the background, and alone in writing until `wait`."""
    words = Metrics().command(url, SECONDS)
    return [joined("{ ", words, "; } | sed 's/^/metric /' &\n")] if head else []


def _log(runtime: str, rank: str) -> list[StringCommand]:
    if not rank:
        return [joined("wait\n")]
    limit = quoted(("timeout", str(LOG_SECONDS), *runtime_of(runtime).logs(rank, LOG_LINES)))
    lines = joined("log=$(", limit, " 2>&1 | cut -c -2000 | sed 's/^/log /')\n")
    return [lines, joined("wait\nprintf '%s\\n' \"$log\"\n")]


def _status(said: str) -> int:
    words = said.split()
    return int(words[0]) if words and words[0].isdigit() else 0


def _models(said: str) -> tuple[int, tuple[str, ...]]:
    """curl's words: the body, its status, the seconds."""
    body, *numbers = ["", *said.rsplit(None, 2)][-3:]
    try:
        entries = json.loads(body).get("data") or ()
        ids = tuple(str(entry["id"]) for entry in entries)
    except (ValueError, AttributeError, TypeError, KeyError):
        ids = ()
    return _status(" ".join(numbers)), ids

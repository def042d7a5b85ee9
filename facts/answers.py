"""What a rank answers now, the load that it reports, and its replies to the probes, each by one
command of bounded time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from pyinfra.api import QuoteString, StringCommand

from cluster.command import Command
from cluster.engine.nccl import loaded_nccl
from cluster.node.readings import Shown
from cluster.probes.exchange import MOST_BYTES, ProbeReply, Round
from cluster.reports.status import ServerLoad
from cluster.reports.watch import WatchdogStatus
from facts import fact, serving

# SGLang's names, and llama.cpp's for the same → ours. SGLang prints one line per rank of its group.
NAMES = {
    "sglang:num_running_reqs": "running",
    "sglang:num_queue_reqs": "queued",
    "sglang:gen_throughput": "tokens_per_second",
    "sglang:token_usage": "kv_cache",
    "sglang:cache_hit_rate": "cache_hits",
    "llamacpp:requests_processing": "running",
    "llamacpp:requests_deferred": "queued",
    "llamacpp:predicted_tokens_seconds": "tokens_per_second",
    "llamacpp:kv_cache_usage_ratio": "kv_cache",
}
_PICK = f"^({'|'.join(NAMES)})[{{ ]"
_LINE = re.compile(r"^(?P<name>[\w:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_MODEL = re.compile(r'(?:^|,)model_name="((?:[^"\\]|\\.)*)"')
# A load balancer in front of many ranks would list each of them.
_LINES = 64


class Metrics(fact.Fact[ServerLoad]):
    """Requests that run and wait, tokens a second, and the share of the KV cache in use.

    + url: where rank 0 serves, as its own node reaches it
    + seconds: to wait for it
    """

    @staticmethod
    def default() -> ServerLoad:
        return ServerLoad()

    def command(self, url: str, seconds: int = 5) -> StringCommand:
        request = ("curl", "-s", "--noproxy", "*", "-m", str(seconds), f"{url}/metrics")
        pick = ("grep", "-m", str(_LINES), "-E", _PICK)
        return fact.join(fact.quote(request), " | ", fact.quote(pick), " || :")

    def parse(self, output: list[str]) -> ServerLoad:
        values_by_name: dict[str, list[float]] = {}
        model = ""
        for line in output:
            sample = _LINE.match(line)
            if sample is None or sample["name"] not in NAMES:
                continue
            try:
                value = float(sample["value"])
            except ValueError:
                continue
            if not isfinite(value):
                continue
            values_by_name.setdefault(NAMES[sample["name"]], []).append(value)
            labelled = _MODEL.search(sample["labels"] or "")
            model = model or (labelled[1] if labelled else "")
        # Every tensor-parallel rank reports the same: the largest is the group's.
        return ServerLoad(
            model=model, **{name: max(values) for name, values in values_by_name.items()}
        )


# Where a watchdog writes how it is: a line of JSON, of at most 20 events.
WATCHDOGS = "/run/spark-watchdog"
_WATCHDOG = """
[ -f "$1" ] && at=$(stat -c %Y "$1") || exit 0
printf 'watchdog %s ' $(($(date +%s) - at)); head -c 65536 "$1"; echo
""".strip()
# SGLang's /health generates a token: about a second where nothing else runs.
SECONDS = 5
LOG_LINES = 80
LOG_SECONDS = 3


@dataclass(frozen=True)
class RankAnswers(Shown):
    """One rank's answers.

    + health: HTTP status of /health, 0 if nothing answered in time
    + models_status, models: of /v1/models, which only the head serves; 0 if it was not queried
    + seconds: since a process began; None for a container
    + log: its last lines; nccl: versions that the log names, the oldest first
    + watchdog: its node's; None where there is none
    + lost: why it could not be reached; "" if it could
    """

    health: int = 0
    models_status: int = 0
    models: tuple[str, ...] = ()
    load: ServerLoad = field(default_factory=ServerLoad)
    seconds: float | None = None
    log: tuple[str, ...] = ()
    nccl: tuple[str, ...] = ()
    watchdog: WatchdogStatus | None = None
    lost: str = ""


class Answers(fact.Fact[RankAnswers]):
    """A rank's health, and the last lines of its log; of the head also the model and the load.

    + url: where it serves, as its own node reaches it
    + rank: its name, "" if it has no log to be read
    + pid: of a process, to learn its age
    + group: whose watchdog to look for; "": none
    """

    def command(
        self,
        url: str,
        runtime: str,
        rank: str,
        head: bool = False,
        pid: str = "",
        group: str = "",
    ) -> StringCommand:
        parts = [
            fact.join(
                "printf 'health %s\\n' \"$(", serving.curl(f"{url}/health", SECONDS), ')" &\n'
            )
        ]
        if head:
            models = serving.curl(f"{url}/v1/models", SECONDS, before=" ")
            one_line = "| tr '\\n' ' '"
            parts.append(
                fact.join("printf 'models %s\\n' \"$( { ", models, "; } ", one_line, ')" &\n')
            )
        if pid:
            age = fact.join("$(ps -o etimes= -p ", QuoteString(pid), ")")
            parts.append(fact.join("printf 'age %s\\n' \"", age, '" &\n'))
        rest = []
        if head:
            # In the background; nothing else prints until `wait`.
            metrics = Metrics().command(url, SECONDS)
            rest.append(fact.join("{ ", metrics, "; } | sed 's/^/metric /' &\n"))
        if rank:
            log = serving.last_lines(runtime, rank, LOG_LINES, LOG_SECONDS)
            rest += [fact.join("log=$(", log, " | sed 's/^/log /')\n")]
            # A Docker that does not answer is not queried twice.
            nccl = serving.nccl_lines(runtime, rank, LOG_SECONDS)
            rest += [fact.join('nccl=; [ -z "$log" ] || nccl=$(\n', nccl, ")\n")]
        if group:
            words = ("sh", "-c", _WATCHDOG, "sh", f"{WATCHDOGS}/{group}.json")
            rest.append(fact.join(fact.quote(words), "\n"))
        shown = 'printf \'%s\\n\' "$log" "$nccl"\n' if rank else ""
        rest += [fact.join("wait\n", shown)]
        # Held back until the rest is printed: output written in blocks would end up inside other
        # lines.
        return fact.join(*parts, "rest=$(\n", *rest, ")\nwait\nprintf '%s\\n' \"$rest\"")

    def parse(self, output: list[str]) -> RankAnswers:
        by_kind: dict[str, list[str]] = {}
        for line in output:
            kind, _, rest = line.partition(" ")
            by_kind.setdefault(kind, []).append(rest)
        # The body, its status, the seconds.
        words = next(iter(by_kind.get("models", ())), "").rsplit(None, 2)
        body, *numbers = ["", *words][-3:]
        try:
            listed = msgspec.json.decode(body, type=_Listed)
        except fact.UNEXPECTED:
            listed = _Listed()
        age = next(iter(by_kind.get("age", ())), "").strip()
        return RankAnswers(
            health=serving.http_status(next(iter(by_kind.get("health", ())), "")),
            models_status=serving.http_status(" ".join(numbers)),
            models=tuple(entry.id for entry in listed.data or ()),
            load=Metrics().process(by_kind.get("metric", ())),
            seconds=fact.decimal(age) if age else None,
            log=tuple(by_kind.get("log", ())),
            nccl=loaded_nccl(by_kind.get("nccl", ())),
            watchdog=_watchdog(next(iter(by_kind.get("watchdog", ())), "")),
        )


_Words = Annotated[str, Meta(max_length=2000)]


class _Done(Struct):
    at: float
    what: _Words
    key: _Words
    why: _Words
    failed: _Words


class _Written(Struct):
    """What we read of a watchdog's file."""

    at: float
    duty: _Words
    why: _Words
    events: tuple[_Done, ...]


def _watchdog(text: str) -> WatchdogStatus | None:
    """A watchdog's file after its age; None where it is none."""
    age, _, document = text.partition(" ")
    try:
        seconds, written = fact.count(age), msgspec.json.decode(document, type=_Written)
    except fact.UNEXPECTED:
        return None
    last = written.events[-1] if written.events else _Done(written.at, "", "", "", "")
    return WatchdogStatus(
        duty=written.duty,
        age=seconds,
        why=written.why,
        last=last.what,
        last_key=last.key,
        last_why=last.why,
        last_failed=last.failed,
        last_age=max(0.0, written.at - last.at) + seconds,
    )


class _Entry(Struct):
    id: str


class _Listed(Struct):
    """What we read of /v1/models."""

    data: tuple[_Entry, ...] | None = None


ASK_MODEL = (Path(__file__).parent / "scripts" / "ask_model.py").read_text()
# Of all probes together. They take 60 s at 20 tokens/s; a large model in BF16 has 7 on two nodes.
PROBE_SECONDS = 180
# Beyond these, for a slow start of Python.
GRACE = 10


class Replies(fact.Fact[tuple[ProbeReply, ...]]):
    """The engine's replies to the probes, in the order in which they came.

    + python: the node's; kill: whether it has `timeout`
    """

    @staticmethod
    def default() -> tuple[ProbeReply, ...]:
        return ()

    def command(self, python: str = "python3", kill: bool = True) -> StringCommand:
        """Its stdin is what `probe_task` returns."""
        return fact.render(Command((python, "-c", ASK_MODEL), PROBE_SECONDS + GRACE, kill=kill))

    def parse(self, output: list[str]) -> tuple[ProbeReply, ...]:
        return tuple(msgspec.json.decode(line, type=ProbeReply) for line in output)


def probe_task(url: str, key: str, rounds: Sequence[Round], seconds: float = PROBE_SECONDS) -> str:
    """What scripts/ask_model.py reads from stdin.

    + url: where rank 0 serves, as its own node reaches it
    + key: the API's; "" where it requires none
    """
    task = {"url": url, "key": key, "seconds": seconds, "most": MOST_BYTES, "rounds": list(rounds)}
    return msgspec.json.encode(task).decode()

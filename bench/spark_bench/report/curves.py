"""Which runs make one curve: they differ in their load, concurrency or rate, and in no more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from spark_bench.load.knee import knee
from spark_bench.report.names import Named
from spark_bench.results.config import Config

Over = Literal["concurrency", "request_rate"]

# What a sweep changes along with the load, or what says who was asked rather than what.
_FREE = (
    "command",
    "overrides",
    "repeat",
    "num_prompts",
    "duration",
    "timeout",
    "warmup",
    "ramp",
    "seed",
    "profile",
    "slo",
    "url",
    "model",
)


class Series(Struct, frozen=True):
    """The runs of one model and variant, by load; knee: the load of its knee, None if not reached.

    Of several runs at one load it has the newest; `older` counts the others.
    """

    label: str
    loads: tuple[float, ...]
    runs: tuple[Named, ...]
    knee: float | None
    older: int = 0


class Family(Struct, frozen=True):
    """Series that can be drawn into one chart: their prompts and answers are alike."""

    over: Over
    words: str
    series: tuple[Series, ...]

    @property
    def points(self) -> int:
        return sum(len(each.loads) for each in self.series)


def families(runs: Iterable[Named]) -> tuple[Family, ...]:
    """Those with at least one curve of two loads, the one of most points first."""
    found: dict[tuple[Over, str], list[Named]] = defaultdict(list)
    for named in runs:
        config = named.run.config
        if not named.run.measured or named.run.entry.status != "complete":
            continue
        if config.concurrency is not None:
            found["concurrency", _rest(config, "concurrency")].append(named)
        if config.request_rate is not None:
            found["request_rate", _rest(config, "request_rate")].append(named)
    made = [family(over, members) for (over, _), members in found.items()]
    drawn = [each for each in made if any(len(series.loads) > 1 for series in each.series)]
    return tuple(sorted(drawn, key=lambda each: -each.points))


def family(over: Over, members: Sequence[Named]) -> Family:
    """All of one kind of load."""
    by_label: dict[str, list[Named]] = defaultdict(list)
    for named in members:
        by_label[named.label].append(named)
    series = tuple(_series(label, over, each) for label, each in by_label.items())
    return Family(over, _words(members[0].run.config, over), series)


def load_of(named: Named, over: Over) -> float:
    """Requests in flight, or requests a second."""
    return float(getattr(named.run.config, over))


def _series(label: str, over: Over, members: Sequence[Named]) -> Series:
    newest: dict[float, Named] = {}
    for named in sorted(members, key=lambda each: each.run.entry.id):
        newest[load_of(named, over)] = named
    loads = tuple(sorted(newest))
    runs = tuple(newest[load] for load in loads)
    at_knee = knee([named.run.at(load) for load, named in zip(loads, runs, strict=True)])
    return Series(label, loads, runs, at_knee.value if at_knee else None, len(members) - len(runs))


def _rest(config: Config, over: Over) -> str:
    fields: dict[str, Any] = msgspec.to_builtins(config)
    kept = {key: value for key, value in fields.items() if key not in (*_FREE, over)}
    return msgspec.json.encode(kept, order="sorted").decode()


def _words(config: Config, over: Over) -> str:
    lengths = " / ".join(
        "varying" if tokens is None else f"{tokens:,}"
        for tokens in (config.input_len, config.output_len)
    )
    words = [f"{lengths} tokens in / out", config.endpoint]
    if over == "concurrency" and config.request_rate is not None:
        words.append(f"{config.request_rate:g} requests/s")
    if over == "request_rate" and config.concurrency is not None:
        words.append(f"at most {config.concurrency} in flight")
    if config.conversations.turns > 1:
        words.append(f"{config.conversations.turns} turns")
    if config.conversations.shared_prefix:
        words.append(f"{config.conversations.shared_prefix} tokens of shared prefix")
    if config.cache == "hit":
        words.append("cached prompts")
    if config.dataset:
        words.append(f"{config.dataset.format} {config.dataset.file}")
    return ", ".join(words)

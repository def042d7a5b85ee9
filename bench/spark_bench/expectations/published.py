"""A result beside what others have published for its setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from math import inf, log
from pathlib import Path

from msgspec import Struct, toml

from spark_bench.expectations.expectation import Expectation
from spark_bench.expectations.setting import ServedSetting
from spark_bench.formats import brief, digits
from spark_bench.metrics.figures import Summary

_FILE = Path(__file__).with_name("published.toml")
# Streams that differ by less are the same load: a closed loop of 8 has 7.6 in flight on average.
_SAME_STREAMS = 1.25
# The figures that two settings can have in common, in words.
_FIGURES = {
    "decode": ("decode", "tok/s"),
    "prefill": ("prefill", "tok/s"),
    "output_throughput": ("output", "tok/s"),
    "ttft_ms": ("mean TTFT", "ms"),
    "itl_ms": ("mean ITL", "ms"),
}


class Published(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody measured; the fields are described in published.toml."""

    models: tuple[str, ...]
    nodes: int
    parallelism: str
    engine: str
    quantisation: str
    source: str
    streams: int | None = None
    input_len: int | None = None
    output_len: int | None = None
    decode: float | None = None
    prefill: float | None = None
    output_throughput: float | None = None
    ttft_ms: float | None = None
    itl_ms: float | None = None

    @property
    def setting(self) -> str:
        """In words."""
        streams = "several streams" if self.streams is None else f"{self.streams} in flight"
        lengths = f", {self.input_len}/{self.output_len} tokens" if self.input_len else ""
        return (
            f"{self.models[0]} in {self.quantisation}, {self.engine}, {self.nodes} "
            f"node{'s' if self.nodes > 1 else ''} {self.parallelism}, {streams}{lengths}"
        )


@cache
def load_published() -> tuple[Published, ...]:
    """All that is known."""
    known = toml.decode(_FILE.read_bytes(), type=dict[str, tuple[Published, ...]])
    return known["published"]


def compare_published(summary: Summary, setting: ServedSetting) -> Iterator[Expectation]:
    """One for each figure that was published for this setting, or one that says what was."""
    if setting.elsewhere or not summary.completed:
        return
    own = [each for each in load_published() if setting.model in each.models]
    found = [each for each in own if _same(each, summary, setting)]
    told = [one for each in found for one in _figures(each, summary)]
    yield from told or [_none(own, summary, setting)]


def streams(summary: Summary) -> float:
    """In flight on average; exactly one where there was never more."""
    return 1.0 if summary.peak_concurrency <= 1 else max(1.0, summary.concurrency or 1.0)


def _same(one: Published, summary: Summary, setting: ServedSetting) -> bool:
    here = (setting.nodes, setting.parallelism, setting.quantisation)
    return (one.nodes, one.parallelism, one.quantisation) == here and _far(one, summary) <= log(
        _SAME_STREAMS
    )


def _far(one: Published, summary: Summary) -> float:
    """How far the loads are from each other, 0 for alike."""
    here = streams(summary)
    if one.streams is None:
        return 0.0 if here > 1 else inf
    return inf if (one.streams == 1) != (here == 1) else abs(log(here / one.streams))


def _figures(one: Published, summary: Summary) -> Iterator[Expectation]:
    for name, measured in _measured(summary).items():
        expected = getattr(one, name)
        if expected is None or measured is None:
            continue
        yield Expectation(
            about="published",
            verdict="beside",
            text=f"{_short(name, measured, expected)}: {one.setting} ({one.source})",
            metric=name,
            measured=measured,
            expected=expected,
            setting=one.setting,
            source=one.source,
        )


def _short(name: str, measured: float, expected: float) -> str:
    words, unit = _FIGURES[name]
    share = f"{measured / expected:.0%}"
    return f"{words} {digits(measured)}, published {brief(expected, unit)} ({share})"


def published_sentences(found: Iterable[Expectation]) -> Iterator[str]:
    """A sentence for each setting, with its figures together."""
    for (setting, source), alike in groupby(found, lambda one: (one.setting, one.source)):
        figures = list(alike)
        told = [
            _short(one.metric, one.measured, one.expected)
            for one in figures
            if one.measured is not None and one.expected is not None
        ]
        yield f"{'; '.join(told)}: {setting} ({source})" if told else figures[0].text


def _measured(summary: Summary) -> dict[str, float | None]:
    alone, itl, ttft = streams(summary) == 1, summary.mean_itl_ms, summary.mean_ttft_ms
    prompt = summary.total_input_tokens / summary.completed
    return {
        "decode": 1e3 / itl if alone and itl else None,
        "prefill": 1e3 * prompt / ttft if alone and ttft else None,
        "output_throughput": summary.output_throughput,
        "ttft_ms": ttft,
        "itl_ms": itl,
    }


def _none(own: list[Published], summary: Summary, setting: ServedSetting) -> Expectation:
    if not own:
        text = f"no published figure of {setting.model} on Sparks is known here"
        return Expectation(about="published", verdict="unknown", text=text)
    near = min(own, key=lambda one: _distance(one, summary, setting))
    figures = ", ".join(
        f"{words} {brief(value, unit)}"
        for name, (words, unit) in _FIGURES.items()
        if (value := getattr(near, name)) is not None
    )
    nodes = f"{setting.nodes or '?'} node{'' if setting.nodes == 1 else 's'} {setting.parallelism}"
    return Expectation(
        about="published",
        verdict="unknown",
        text=f"nothing is known to be published for {setting.quantisation}, {nodes}, "
        f"{brief(streams(summary))} in flight; the nearest: {figures} ({near.setting}; "
        f"{near.source})",
        setting=near.setting,
        source=near.source,
    )


def _distance(
    one: Published, summary: Summary, setting: ServedSetting
) -> tuple[bool, bool, bool, float]:
    return (
        one.nodes != setting.nodes,
        one.quantisation != setting.quantisation,
        one.parallelism != setting.parallelism,
        min(_far(one, summary), 1e9),
    )

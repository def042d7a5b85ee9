"""A result next to what others have published for its setting."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from math import inf, log
from pathlib import Path

from msgspec import Struct, toml

from spark_bench.expectations.setting import Expectation, ServedSetting
from spark_bench.formats import brief, digits
from spark_bench.metrics.figures import Summary

_FILE = Path(__file__).with_name("published.toml")
# Streams within this ratio are the same load: a closed loop of 8 has 7.6 in flight on average.
_SAME_STREAMS = 1.25
# Figures that can be compared: name and unit.
_FIGURES = {
    "decode": ("decode", "tok/s"),
    "prefill": ("prefill", "tok/s"),
    "output_throughput": ("output", "tok/s"),
    "ttft_ms": ("mean TTFT", "ms"),
    "itl_ms": ("mean ITL", "ms"),
}


class Published(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published measurement; published.toml describes the fields."""

    models: tuple[str, ...]
    nodes: int
    parallelism: str
    engine: str
    quantization: str
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
        """The setting in words."""
        streams = "several streams" if self.streams is None else f"{self.streams} in flight"
        lengths = f", {self.input_len}/{self.output_len} tokens" if self.input_len else ""
        return (
            f"{self.models[0]} in {self.quantization}, {self.engine}, {self.nodes} "
            f"node{'s' if self.nodes > 1 else ''} {self.parallelism}, {streams}{lengths}"
        )


@cache
def load_published() -> tuple[Published, ...]:
    """Everything in published.toml."""
    tables = toml.decode(_FILE.read_bytes(), type=dict[str, tuple[Published, ...]])
    return tables["published"]


def compare_published(summary: Summary, setting: ServedSetting) -> Iterator[Expectation]:
    """Yield an expectation per figure published for this setting, or one that names the nearest."""
    if setting.elsewhere or not summary.completed:
        return
    own = [each for each in load_published() if setting.model in each.models]
    here = (setting.nodes, setting.parallelism, setting.quantization)
    alike = [
        each
        for each in own
        if (each.nodes, each.parallelism, each.quantization) == here
        and _far(each, summary) <= log(_SAME_STREAMS)
    ]
    judged = [one for each in alike for one in _figures(each, summary)]
    yield from judged or [_none(own, summary, setting)]


def streams(summary: Summary) -> float:
    """Requests in flight on average; exactly 1 if there was never more."""
    return 1.0 if summary.peak_concurrency <= 1 else max(1.0, summary.concurrency or 1.0)


def _far(one: Published, summary: Summary) -> float:
    """The distance between the loads; 0 if they are the same."""
    here = streams(summary)
    if one.streams is None:
        return 0.0 if here > 1 else inf
    return inf if (one.streams == 1) != (here == 1) else abs(log(here / one.streams))


def _figures(one: Published, summary: Summary) -> Iterator[Expectation]:
    alone, itl, ttft = streams(summary) == 1, summary.mean_itl_ms, summary.mean_ttft_ms
    prompt = summary.total_input_tokens / summary.completed
    ours = {
        "decode": 1e3 / itl if alone and itl else None,
        "prefill": 1e3 * prompt / ttft if alone and ttft else None,
        "output_throughput": summary.output_throughput,
        "ttft_ms": ttft,
        "itl_ms": itl,
    }
    for name, measured in ours.items():
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


def published_sentences(expectations: Iterable[Expectation]) -> Iterator[str]:
    """A sentence per setting and source, with all its figures."""
    for (setting, source), alike in groupby(expectations, lambda one: (one.setting, one.source)):
        figures = list(alike)
        shares = [
            _short(one.metric, one.measured, one.expected)
            for one in figures
            if one.measured is not None and one.expected is not None
        ]
        yield f"{'; '.join(shares)}: {setting} ({source})" if shares else figures[0].text


def _none(own: list[Published], summary: Summary, setting: ServedSetting) -> Expectation:
    if not own:
        text = f"no published figures for {setting.model} on Sparks"
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
        text=f"no published figures for {setting.quantization}, {nodes}, "
        f"{brief(streams(summary))} in flight; the nearest are {figures} ({near.setting}; "
        f"{near.source})",
        setting=near.setting,
        source=near.source,
    )


def _distance(
    one: Published, summary: Summary, setting: ServedSetting
) -> tuple[bool, bool, bool, float]:
    return (
        one.nodes != setting.nodes,
        one.quantization != setting.quantization,
        one.parallelism != setting.parallelism,
        min(_far(one, summary), 1e9),
    )

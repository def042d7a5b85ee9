"""A result next to what others have published for its setting."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from math import inf, log
from pathlib import Path

from msgspec import toml
from msgspec.structs import replace

from spark_bench.expectations.setting import Expectation, ServedSetting
from spark_bench.formats import brief, digits, with_sign
from spark_bench.metrics.figures import Summary
from spark_bench.results.config_schema import Published

_FILE = Path(__file__).with_name("published.toml")
# Streams within this ratio are the same load: a closed loop of 8 has 7.6 in flight on average.
_SAME_STREAMS = 1.25
# Figures that can be compared: name and unit.
FIGURES = {
    "tpot_ms": ("mean TPOT", "ms"),
    "decode": ("decode", "tok/s"),
    "prefill": ("prefill", "tok/s"),
    "output_throughput": ("output", "tok/s"),
    "ttft_ms": ("mean TTFT", "ms"),
    "itl_ms": ("mean ITL", "ms"),
    "total_per_gpu": ("input + output per GPU", "tok/s"),
}


@cache
def load_published() -> tuple[Published, ...]:
    """Everything in published.toml."""
    tables = toml.decode(_FILE.read_bytes(), type=dict[str, tuple[Published, ...]])
    return tables["published"]


def setting_words(one: Published) -> str:
    """The setting in words, without the load."""
    variant = f" ({named})" if (named := one.variant or one.setting) else ""
    engine = f"{one.engine}, " if one.engine else ""
    return (
        f"{one.models[0]}{variant} in {one.quantization}, {engine}{one.nodes} "
        f"node{'s' if one.nodes > 1 else ''} {one.parallelism}"
    )


def compare_published(
    summary: Summary,
    setting: ServedSetting,
    lengths: tuple[int, int | None] | None = None,
) -> Iterator[Expectation]:
    """Yield an expectation per figure published for this setting, or one that names the nearest.

    lengths: tokens of prompt and answer that the figures must be for; None: any

    Figures that depend on their texts are left out: they are compared only with their own load.
    """
    if setting.elsewhere or not summary.completed:
        return
    everything = [each for each in load_published() if setting.model in each.models]
    own = [each for each in everything if not each.workload]
    if everything and not own:
        yield Expectation(
            about="published",
            verdict="unknown",
            text=f"the figures published for {setting.model} hold for their own loads alone: "
            "`spark-bench run --as-published` sends those that are stated",
        )
        return
    here = (setting.nodes, setting.parallelism, setting.quantization)
    alike = [
        each
        for each in own
        if (each.nodes, each.parallelism, each.quantization) == here
        and _far(each, summary) <= log(_SAME_STREAMS)
        and lengths in (None, (each.input_len, each.output_len))
    ]
    judged = [one for each in alike for one in figures_beside(each, summary)]
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


def figures_beside(one: Published, summary: Summary) -> Iterator[Expectation]:
    """Yield an expectation per published figure that the summary has as well."""
    alone, itl, ttft = streams(summary) == 1, summary.mean_itl_ms, summary.mean_ttft_ms
    prompt = summary.total_input_tokens / summary.completed
    total = summary.total_throughput
    ours = {
        "tpot_ms": summary.mean_tpot_ms,
        "decode": 1e3 / itl if alone and itl else None,
        "prefill": 1e3 * prompt / ttft if alone and ttft else None,
        "output_throughput": summary.output_throughput,
        "ttft_ms": ttft,
        "itl_ms": itl,
        "total_per_gpu": total / one.gpus if total else None,
    }
    for name, measured in ours.items():
        expected = getattr(one, name)
        if expected is None or measured is None:
            continue
        figure = Expectation(
            about="published",
            verdict="beside",
            text="",
            metric=name,
            measured=measured,
            expected=expected,
            setting=f"{setting_words(one)}, {one.load}, {one.evidence}",
            source=one.source,
        )
        yield replace(figure, text=f"{beside_text(figure)}: {figure.setting} ({figure.source})")


def published_sentences(expectations: Iterable[Expectation]) -> Iterator[str]:
    """A sentence per setting and source, with all its figures."""
    for (setting, source), alike in groupby(expectations, lambda one: (one.setting, one.source)):
        figures = list(alike)
        shares = [beside_text(one) for one in figures if one.share is not None]
        yield f"{'; '.join(shares)}: {setting} ({source})" if shares else figures[0].text


def beside_text(figure: Expectation) -> str:
    """A figure with the published one, as "mean TPOT 34.1 ±0.2, published 33.59 ms (+1.5%)"."""
    words, unit = FIGURES[figure.metric]
    expected = f"{figure.expected:,.6g} {unit}"
    return f"{words} {measured_text(figure)}, published {expected} ({percent_text(figure)})"


def measured_text(figure: Expectation) -> str:
    """The figure measured here, with its interval over repeats."""
    if figure.low is None or figure.high is None:
        return digits(figure.measured)
    return f"{digits(figure.measured)} ±{digits((figure.high - figure.low) / 2)}"


def percent_text(figure: Expectation) -> str:
    """How far the figure measured here is from the published one."""
    return f"{with_sign(100 * ((figure.share or 0.0) - 1))}%"


def _none(own: list[Published], summary: Summary, setting: ServedSetting) -> Expectation:
    if not own:
        text = f"no published figures for {setting.model} on Sparks"
        return Expectation(about="published", verdict="unknown", text=text)
    near = min(own, key=lambda one: _distance(one, summary, setting))
    figures = ", ".join(
        f"{words} {brief(value, unit)}"
        for name, (words, unit) in FIGURES.items()
        if (value := getattr(near, name)) is not None
    )
    nodes = f"{setting.nodes or '?'} node{'' if setting.nodes == 1 else 's'} {setting.parallelism}"
    return Expectation(
        about="published",
        verdict="unknown",
        text=f"no published figures for {setting.quantization}, {nodes}, "
        f"{brief(streams(summary))} in flight; the nearest are {figures} ({setting_words(near)}, "
        f"{near.load}; {near.source})",
        setting=setting_words(near),
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

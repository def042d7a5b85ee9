"""Figures that can be compared: keys, short names, and which direction is better."""

from collections.abc import Iterable
from typing import Literal, get_type_hints

from spark_bench import errors, formats
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.steady import Steady
from spark_bench.results.schema import Measurement

Better = Literal["higher", "lower", ""]

_NUMBERS = (int, float, float | None)
SUMMARY = tuple(name for name, kind in get_type_hints(Summary).items() if kind in _NUMBERS)
STEADY = tuple(name for name, kind in get_type_hints(Steady).items() if kind in _NUMBERS)
GOODPUT = ("request_goodput", "slo_attainment")
JOULE = "tokens_per_joule"
# Tokens of each decode step with speculative decoding, where a result claims them.
ACCEPTED = "accepted.mean"
KNOWN = (*SUMMARY, *(f"steady.{name}" for name in STEADY), JOULE, ACCEPTED)

DEFAULT = (
    "output_throughput",
    "steady.output_throughput",
    "total_throughput",
    "request_throughput",
    "request_goodput",
    *(
        f"{figure}_{name}_ms"
        for name in ("ttft", "itl", "tpot", "e2e_latency")
        for figure in ("mean", "median", "p99")
    ),
    ACCEPTED,
)

# What a gate without a figure's name is about. Which of them repeats have nearly alike depends on
# the load: against SGLang on two H100 the median ITL (0.5 %, the throughput 2.4 %), on one H100 the
# median ITL (0.2 %) and the throughput (0.7 %, its steady part 1.9 %). The mean ITL is not among
# them: prefills that happen to fall together drown it, and it differs from run to run by more than
# repeats show (tests/support/gpu_spread.json).
STEADIEST = (
    "output_throughput",
    "steady.output_throughput",
    "median_itl_ms",
    "median_tpot_ms",
)

_LATENCIES = {
    "ttft": "ttft",
    "itl": "itl",
    "tpot": "tpot",
    "e2e": "e2e_latency",
    "e2e_latency": "e2e_latency",
    "ttfc": "ttfc",
    "ttfo": "ttfo",
    "icl": "icl",
    "scheduled_ttft": "scheduled_ttft",
    "scheduled_e2e": "scheduled_e2e_latency",
    "e2e_done": "e2e_done",
}
_STATISTICS = {
    "mean": "mean",
    "median": "median",
    "p50": "median",
    "std": "std",
    "p90": "p90",
    "p95": "p95",
    "p99": "p99",
    "p99_9": "p99_9",
    "max": "max",
}
_HIGHER = ("max_output_tokens_per_s", JOULE, ACCEPTED, *GOODPUT)
_LOWER = ("duration", "failed", "stopped_early")


# ttft → median_ttft_ms, ttft_p99 and p99_ttft → p99_ttft_ms, and so on.
ALIASES = {
    "throughput": "output_throughput",
    "goodput": "request_goodput",
    "accepted": ACCEPTED,
} | {
    alias: f"{statistic}_{latency}_ms"
    for name, latency in _LATENCIES.items()
    for word, statistic in (("", "median"), *_STATISTICS.items())
    for alias in ((f"{name}_{word}", f"{word}_{name}") if word else (name,))
}


def is_figure(name: str) -> bool:
    """Whether a name or short name is that of a figure."""
    return (wanted := name.strip().lower()) in KNOWN or wanted in ALIASES


def find_metric(name: str, option: str) -> str:
    """The summary's key for a name or short name. BadInput names `option`."""
    wanted = name.strip().lower()
    if wanted in KNOWN:
        return wanted
    if wanted in ALIASES:
        return ALIASES[wanted]
    hint = formats.did_you_mean(wanted, (*KNOWN, *ALIASES))
    raise errors.BadInput(
        f"{option}: unknown figure {name!r}{hint}; give a key of a result's summary or a short "
        "name such as output_throughput, ttft, ttft_p99, itl_mean, e2e"
    )


def choose_metrics(text: str | None) -> tuple[str, ...]:
    """The figures in --metrics: a comma-separated list, "all", or None for the default ones."""
    if text is None:
        return DEFAULT
    if text.strip().lower() == "all":
        return KNOWN
    return tuple(dict.fromkeys(find_metric(name, "--metrics") for name in text.split(",")))


def better(name: str) -> Better:
    """Which direction is better; "" for figures that describe the load (counts, concurrency)."""
    plain = name.removeprefix("steady.")
    if plain.endswith("_throughput") or plain in _HIGHER:
        return "higher"
    return "lower" if plain.endswith("_ms") or plain in _LOWER else ""


def collect_figures(measured: Measurement) -> dict[str, float]:
    """Every figure that a repeat has, by key."""
    summary, steady, nodes = measured.summary, measured.summary.steady, measured.nodes
    figures = dict(_numbers(summary, SUMMARY))
    if steady:
        figures |= {f"steady.{name}": value for name, value in _numbers(steady, STEADY)}
    if nodes and nodes.tokens_per_joule is not None:
        figures[JOULE] = nodes.tokens_per_joule
    if measured.accepted and not measured.accepted.unclear:
        figures[ACCEPTED] = measured.accepted.mean
    return figures


def _numbers(struct: object, names: Iterable[str]) -> Iterable[tuple[str, float]]:
    for name in names:
        if (value := getattr(struct, name)) is not None:
            yield name, float(value)

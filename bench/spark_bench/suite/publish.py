"""Results in Markdown: the matrix, and the rows that people with Sparks publish.

Those rows have the form of llama-benchy 0.4.0: `pp` is the speed at which a prompt is read, `tg`
the one at which the answer is written, `(cN)` with N requests at once, `@ dN` after N tokens that
all prompts begin with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spark_bench.results.codec import read
from spark_bench.suite.output import Results
from spark_bench.suite.rows import Row
from spark_bench.suite.summary import HEAD, lines, title
from spark_bench.suite.table import markdown

if TYPE_CHECKING:
    from spark_bench.metrics.distributions import Distributions
    from spark_bench.metrics.figures import Summary
    from spark_bench.results.types import Result

ROWS = ("model", "test", "t/s (total)", "t/s (req)", "ttfr (ms)", "e2e_ttft (ms)")
NOTE = (
    "t/s (req): of one request, mean ± standard deviation over {over}; t/s (total): all requests "
    "together; ttfr: to the first event, e2e_ttft: to the first token."
)
REQUESTS, REPEATS = "requests", "repeats"
Spread = tuple[float, float | None]


def text(results: Results, folder: Path) -> str:
    """Both tables. The second is of those that are OK."""
    found = [
        (row, read(folder / row.file)) for row in results.results if row.status == "OK" and row.file
    ]
    over = REPEATS if results.config.repeat > 1 else REQUESTS
    parts = [f"{results.config}", markdown(HEAD, lines(results.results))]
    if found:
        table = [line for row, result in found for line in published(row, result)]
        parts += [markdown(ROWS, table, left=2), NOTE.format(over=over)]
    return "\n\n".join(parts) + "\n"


def published(row: Row, result: Result) -> Iterator[list[str]]:
    """A row for reading prompts, and one for writing answers."""
    config = result.config
    many = [repeat.summary for repeat in result.repeats] or [result.summary]
    kept = [r.distributions for r in result.repeats] or [result.distributions]
    at_once = (
        f" (c{result.summary.peak_concurrency})" if result.summary.peak_concurrency > 1 else ""
    )
    depth = config.conversations.shared_prefix
    after = (f" @ d{depth}" if depth else "") + at_once
    fresh = (config.input_len or 0) - depth
    total = _over([s.output_throughput for s in many])
    yield [
        title(row),
        f"pp{fresh}{after}",
        "" if at_once else said(_rate(kept, "ttft_ms", fresh)),
        said(_rate(kept, "ttft_ms", fresh)),
        said(_time(many, "ttfc")),
        said(_time(many, "ttft")),
    ]
    yield [
        title(row),
        f"tg{config.output_len}{after}",
        said(total),
        said(_rate(kept, "tpot_ms", 1)),
        "",
        "",
    ]


def said(spread: Spread | None) -> str:
    """ "12.34 ± 0.56", without the second where there is one figure alone."""
    if spread is None:
        return ""
    mean, deviation = spread
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _rate(kept: Sequence[Distributions | None], name: str, tokens: int) -> Spread | None:
    """Tokens a second of one request, by the time that they took."""
    rates = [found for each in kept if each and (found := _rates(each, name, tokens)) is not None]
    if not rates:
        return None
    if len(rates) == 1:
        return float(rates[0].mean()), float(rates[0].std())
    return _over([float(each.mean()) for each in rates])


def _rates(kept: Distributions, name: str, tokens: int) -> np.ndarray | None:
    """At evenly spaced quantiles, which stand for the requests."""
    pairs = zip(kept.points, getattr(kept, name), strict=False)
    times = np.array([time for point, time in pairs if (point * 2).is_integer()])
    times = times[times > 0]
    return tokens * 1000.0 / times if times.size and tokens > 0 else None


def _time(many: Sequence[Summary], name: str) -> Spread | None:
    means = [getattr(summary, f"mean_{name}_ms") for summary in many]
    if len(many) > 1 or means[0] is None:
        return _over(means)
    return means[0], getattr(many[0], f"std_{name}_ms")


def _over(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float(np.mean(known)), float(np.std(known)) if len(known) > 1 else None

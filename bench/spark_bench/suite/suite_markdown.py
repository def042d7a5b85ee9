"""A suite as Markdown, in the form in which owners of Sparks publish it.

The published rows have the form of llama-benchy 0.4.0: `pp` is the speed of reading a prompt, `tg`
that of writing the answer, `(cN)` means N concurrent requests, `@ dN` after a prefix of N tokens
that all prompts share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spark_bench.formats import markdown_table
from spark_bench.printable import markdown
from spark_bench.results.suite_results import CaseRow, SuiteResults
from spark_bench.suite.suite_tables import matrix_head, matrix_rows, row_title

if TYPE_CHECKING:
    from spark_bench.metrics.figures import Summary
    from spark_bench.metrics.summary import Distributions
    from spark_bench.results.schema import Result

PUBLISHED = ("model", "test", "t/s (total)", "t/s (req)", "ttfr (ms)", "e2e_ttft (ms)")
NOTE = (
    "t/s (req): of one request, mean ± standard deviation over {over}; t/s (total): all requests "
    "together; ttfr: to the first event, e2e_ttft: to the first token."
)
MeanDeviation = tuple[float, float | None]


def render_markdown(results: SuiteResults, folder: Path) -> str:
    """Markdown with the matrix, and the rows to publish for each case that is OK."""
    from spark_bench.results.codec import read_result

    pairs = [
        (row, read_result(folder / row.file))
        for row in results.results
        if row.status == "OK" and row.file
    ]
    matrix = [list(map(markdown, row)) for row in matrix_rows(results.results, bounded=True)]
    quality = [f"{results.quality}"] if results.quality else []
    parts = [f"{results.config}", *quality, markdown_table(matrix_head(results.results), matrix)]
    if pairs:
        table = [
            list(map(markdown, line))
            for row, result in pairs
            for line in published_rows(row, result)
        ]
        over = "repeats" if results.config.repeat > 1 else "requests"
        parts += [markdown_table(PUBLISHED, table, left=2), NOTE.format(over=over)]
    return "\n\n".join(parts) + "\n"


def published_rows(row: CaseRow, result: Result) -> Iterator[list[str]]:
    """Yield a row for reading prompts, and one for writing answers."""
    config, peak = result.config, result.summary.peak_concurrency
    summaries = [repeat.summary for repeat in result.repeats] or [result.summary]
    distributions = [r.distributions for r in result.repeats] or [result.distributions]
    at_once = f" (c{peak})" if peak > 1 else ""
    depth = config.conversations.shared_prefix
    test = (f" @ d{depth}" if depth else "") + at_once
    fresh = (config.input_len or 0) - depth
    prompt_rate = format_spread(_request_rate(distributions, "ttft_ms", fresh))
    yield [
        row_title(row),
        f"pp{fresh}{test}",
        "" if at_once else prompt_rate,
        prompt_rate,
        format_spread(_latency(summaries, "ttfc")),
        format_spread(_latency(summaries, "ttft")),
    ]
    yield [
        row_title(row),
        f"tg{config.output_len}{test}",
        format_spread(_mean_deviation([s.output_throughput for s in summaries])),
        format_spread(_request_rate(distributions, "tpot_ms", 1)),
        "",
        "",
    ]


def format_spread(spread: MeanDeviation | None) -> str:
    """ "12.34 ± 0.56", without the deviation if there is only one figure."""
    if spread is None:
        return ""
    mean, deviation = spread
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _request_rate(
    repeats: Sequence[Distributions | None], name: str, tokens: int
) -> MeanDeviation | None:
    """Tokens per second of a single request: `tokens` over its time `name`, with the deviation."""
    import numpy as np

    rates = []
    for repeat in repeats:
        if repeat is None:
            continue
        # Evenly spaced quantiles stand for the requests.
        pairs = zip(repeat.points, getattr(repeat, name), strict=False)
        times = np.array([time for point, time in pairs if (point * 2).is_integer()])
        times = times[times > 0]
        if times.size and tokens > 0:
            rates.append(tokens * 1000.0 / times)
    if len(rates) == 1:
        return float(rates[0].mean()), float(rates[0].std())
    return _mean_deviation([float(each.mean()) for each in rates])


def _latency(summaries: Sequence[Summary], name: str) -> MeanDeviation | None:
    means = [getattr(summary, f"mean_{name}_ms") for summary in summaries]
    if len(summaries) > 1 or means[0] is None:
        return _mean_deviation(means)
    return means[0], getattr(summaries[0], f"std_{name}_ms")


def _mean_deviation(figures: Sequence[float | None]) -> MeanDeviation | None:
    import numpy as np

    values = [value for value in figures if value is not None]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values)) if len(values) > 1 else None

"""`spark-bench verify`."""

import sys
from typing import Any

import click

from spark_bench.cli.commands import positive_number
from spark_bench.printable import json_text

EPILOG = """
\b
Examples:
  spark-bench verify                     20 to 25 seconds
  spark-bench verify --quick             about 10
  spark-bench verify --streams 32 --itl 5
  spark-bench verify --json | jq .verdict

\b
Good enough means, at every number of streams:
  - time stamps of chunks are within 1 ms of the truth at p99: a tenth of the
    shortest step that an engine takes;
  - mean, p50 and p99 of TTFT and ITL are within 1 % or 0.1 ms of the truth:
    less than any difference worth acting on, and than a network adds;
  - every chunk is counted, and at most 1 % share a time with another.

\b
Exit codes:
  0    good enough
  1    not good enough (the last lines say why), or no C compiler
  2    an option is invalid
"""

STREAMS, QUICK_STREAMS = "1,16,64,256", "1,64"
SECONDS, QUICK_SECONDS = 2.0, 0.8
QUICK_SCALE = 0.25
# With more streams, sending the requests would take longer than the time to first token.
MOST = 4096


@click.command("verify", epilog=EPILOG)
@click.option(
    "--streams", metavar="N,...", help=f"Numbers of streams at once.  [default: {STREAMS}]"
)
@click.option(
    "--itl",
    metavar="MS",
    type=positive_number(),
    default=10.0,
    show_default=True,
    help="Time between two chunks of a stream.",
)
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=positive_number(),
    help=f"Duration of each load.  [default: {SECONDS:g}]",
)
@click.option("--quick", is_flag=True, help="Fewer streams, shorter loads: a rough check.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the figures as JSON; everything else goes to stderr.",
)
def command(
    streams: str | None, itl: float, seconds: float | None, quick: bool, as_json: bool
) -> int:
    """Check how accurately this machine measures.

    The client runs against a built-in server that logs when it really sent each chunk. No other
    server is needed; a C compiler is, once.
    """
    import msgspec

    from spark_bench.display.terminal import print_all
    from spark_bench.selftest.selftest import SelftestOptions, choose_progress, run_selftest
    from spark_bench.selftest.selftest_tables import render_selftest

    options = SelftestOptions(
        streams=stream_counts(streams or (QUICK_STREAMS if quick else STREAMS)),
        itl_ms=itl,
        seconds=seconds or (QUICK_SECONDS if quick else SECONDS),
        scale=QUICK_SCALE if quick else 1.0,
    )
    with choose_progress(sys.stderr) as show:
        report = run_selftest(options, show)
    print_all(render_selftest(report), sys.stderr if as_json else sys.stdout)
    if as_json:
        click.echo(json_text(msgspec.json.format(msgspec.json.encode(report))))
    return 0 if report.verdict.good else 1


def stream_counts(text: str) -> tuple[int, ...]:
    """Numbers from a comma-separated list, ascending and without duplicates.

    Raises BadParameter for anything else.
    """
    words: list[Any] = [word.strip() for word in text.split(",")]
    good = all(word.isascii() and word.isdigit() and 1 <= int(word) <= MOST for word in words)
    if not good:
        raise click.BadParameter(
            f"{text} is not a list of whole numbers from 1 to {MOST}, such as {STREAMS}",
            param_hint="--streams",
        )
    return tuple(sorted(set(map(int, words))))

"""`spark-bench verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from spark_bench.cli.types import positive
from spark_bench.printable import json_text

if TYPE_CHECKING:
    from spark_bench.selftest.story import Asked

EPILOG = """
\b
Examples:
  spark-bench verify                     20 to 25 seconds
  spark-bench verify --quick             about 10
  spark-bench verify --streams 32 --itl 5
  spark-bench verify --json | jq .verdict

\b
Good enough means, at every number of streams that was asked for:
  - chunks' time stamps are within 1 ms of the truth at p99: a tenth of the
    shortest step that an engine takes;
  - mean, p50 and p99 of TTFT and ITL are within 1 % or 0.1 ms of the truth:
    less than any difference that one would act on, or than a network adds;
  - every chunk is counted, and at most 1 % share a time with another one.

\b
Exit codes:
  0    good enough
  1    not good enough (the last lines say why), or no C compiler
  2    an option that can't be used
"""

STREAMS, QUICK_STREAMS = "1,16,64,256", "1,64"
SECONDS, QUICK_SECONDS = 2.0, 0.8
QUICK_SCALE = 0.25
# More would have the client send for longer than a first token takes.
MOST = 4096


@click.command("verify", epilog=EPILOG)
@click.option("--streams", metavar="N,...", help=f"How many at once.  [default: {STREAMS}]")
@click.option(
    "--itl",
    metavar="MS",
    type=positive(),
    default=10.0,
    show_default=True,
    help="Between two chunks of a stream.",
)
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=positive(),
    help=f"For each number of streams.  [default: {SECONDS:g}]",
)
@click.option("--quick", is_flag=True, help="Fewer streams, shorter: rough.")
@click.option("--json", "as_json", is_flag=True, help="Figures to stdout, all else to stderr.")
def command(
    streams: str | None, itl: float, seconds: float | None, quick: bool, as_json: bool
) -> int:
    """Measure this client itself, on this machine.

    It is run against a built-in server that logs when it really sent each chunk. No other server
    is needed, but a C compiler is, once.
    """
    import sys

    import msgspec

    from spark_bench.display.terminal import print_all
    from spark_bench.selftest.steps import shown
    from spark_bench.selftest.story import verify
    from spark_bench.selftest.tables import tables

    asked = _asked(streams, itl, seconds, quick)
    with shown(sys.stderr) as show:
        report = verify(asked, show)
    print_all(tables(report), sys.stderr if as_json else sys.stdout)
    if as_json:
        click.echo(json_text(msgspec.json.format(msgspec.json.encode(report))))
    return 0 if report.verdict.good else 1


def _asked(streams: str | None, itl: float, seconds: float | None, quick: bool) -> Asked:
    from spark_bench.selftest.story import Asked

    return Asked(
        streams=counts(streams or (QUICK_STREAMS if quick else STREAMS)),
        itl_ms=itl,
        seconds=seconds or (QUICK_SECONDS if quick else SECONDS),
        scale=QUICK_SCALE if quick else 1.0,
    )


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between, rising and each once."""
    words: list[Any] = [word.strip() for word in text.split(",")]
    good = all(word.isascii() and word.isdigit() and 1 <= int(word) <= MOST for word in words)
    if not good:
        raise click.BadParameter(
            f"{text} is not a list of whole numbers from 1 to {MOST}, such as {STREAMS}",
            param_hint="--streams",
        )
    return tuple(sorted(set(map(int, words))))

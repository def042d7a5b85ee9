"""`spark-bench compare`."""

from typing import Literal

import click

from spark_bench.cli.commands import print_message

EPILOG = """
\b
Examples:
  spark-bench compare before.json after.json
  spark-bench compare 'before/*.json' 'after/*.json' --metrics all
  spark-bench compare before.json after.json --csv > matrix.csv
  spark-bench compare before.json after.json --gate 3%
  spark-bench compare before.json after.json --gate output_throughput=-3%,ttft_p99=+5%
  spark-bench compare before/ after/ --gate arith=-2pts,output_throughput=-3%

\b
A gate's limit is the largest regression that may pass. It
  holds     if a regression of that size is excluded (99 %, one-sided)
  failed    if it isn't, and there is a regression (all gates together
            take identical runs for one at most once in a hundred)
  unjudged  if there are too few repeats for this spread to tell; of a
            score, whose limit is in points, too few items

\b
A limit without a name, such as 3%, is one of output_throughput,
steady.output_throughput, median_itl_ms and median_tpot_ms each: it fails if
one of them does, and is unjudged if none can be judged.

\b
Exit codes:
  0    compared; all gates hold
  1    a gate failed
  2    the runs can't be read or compared, or a gate can't be judged
"""

Form = Literal["csv", "json", "markdown"]


@click.command("compare", epilog=EPILOG)
@click.argument("runs", metavar="BASELINE [RUN]...", nargs=-1, required=True)
@click.option(
    "--metrics", metavar="NAMES", help="Figures, such as output_throughput,ttft_p99; or all."
)
@click.option(
    "--gate", metavar="LIMITS", help="Fail if a figure is worse than NAME=LIMIT,...; or 3%."
)
@click.option("--anyway", is_flag=True, help="Compare runs of different loads, seeds or accuracy.")
@click.option(
    "--csv",
    "form",
    flag_value="csv",
    help="Print the matrix as CSV; everything else goes to stderr.",
)
@click.option("--json", "form", flag_value="json", help="Print all details as JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="Print a Markdown table.")
def command(
    runs: tuple[str, ...], metrics: str | None, gate: str | None, anyway: bool, form: Form | None
) -> None:
    """Compare runs, and the scores of `spark-bench quality`, with a baseline, the first of them.

    Each RUN is a result file, or a folder or quoted glob whose results count as repeats of one run.
    Of one folder or glob alone, each result is a run, and the oldest is the baseline.
    """
    from spark_bench.compare.comparison import compare_runs, gate_error

    comparison = compare_runs(runs, metrics, gate, anyway)
    if form is None:
        from spark_bench.compare.compare_tables import comparison_tables
        from spark_bench.display.terminal import print_all

        print_all(comparison_tables(comparison))
    else:
        from spark_bench.compare import compare_export
        from spark_bench.compare.comparison import verdict_line

        document = getattr(compare_export, f"comparison_{form}")
        click.echo(document(comparison), nl=form == "json")
        for text in (*comparison.notes, *map(verdict_line, comparison.verdicts)):
            print_message(text)
    if error := gate_error(comparison.verdicts):
        raise error

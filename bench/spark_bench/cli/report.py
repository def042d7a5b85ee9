"""`spark-bench report`: results as a page."""

from datetime import UTC, datetime
from pathlib import Path

import click

from spark_bench.cli.commands import print_message
from spark_bench.formats import byte_text, plural
from spark_bench.printable import printable

EPILOG = """
\b
Examples:
  spark-bench report
  spark-bench report benchmark_results/bench_quick_*.json -o quick.html
  spark-bench report monday/ tuesday/ --title "Two days"
  spark-bench report --timeline 20261123T133805250Z
  spark-bench report benchmark_results/bench_depth_* --llama-benchy rows.json
"""


@click.command("report", epilog=EPILOG)
@click.argument("runs", metavar="[RUNS]...", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default="report.html",
    show_default=True,
    help="The page's file.",
)
@click.option("--title", metavar="TEXT", default="Benchmark report", help="The page's heading.")
@click.option(
    "--llama-benchy",
    "rows",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the results at depths as llama-benchy's JSON instead; - for stdout.",
)
@click.option(
    "--timeline", "timeline", metavar="ID", help="The run to show over time. Default: the newest."
)
def command(
    runs: tuple[str, ...], output: Path, title: str, rows: Path | None, timeline: str | None
) -> None:
    """Render results as one HTML page, which needs neither network nor script.

    RUNS are result files, folders or quoted globs; without them, benchmark_results.
    """
    if rows:
        return write_rows(runs, rows)
    from spark_bench.report.gather import gather_runs
    from spark_bench.report.page import build_page, render_html
    from spark_bench.results.files import replacing

    gathered = gather_runs(runs)
    data = render_html(build_page(gathered, title, datetime.now(UTC), timeline))
    with replacing(output) as file:
        file.write(data)
    for sentence in gathered.damaged:
        print_message(f"left out: {sentence}")
    runs_text = plural(len(gathered.runs), "run")
    click.echo(f"{printable(str(output))}: {runs_text}, {byte_text(len(data), 'kB')}")


def write_rows(words: tuple[str, ...], target: Path) -> None:
    """Write results at depths in llama-benchy's form. BadInput if there are none."""
    from spark_bench.results import codec, files
    from spark_bench.results.llama_benchy import export_rows

    paths = files.find_files(words or (str(files.FOLDER),))
    data = export_rows([codec.read_result(path) for path in paths if files.claims_result(path)])
    if target == Path("-"):
        click.echo(data, nl=False)
        return
    with files.replacing(target) as file:
        file.write(data)
    click.echo(f"{printable(str(target))}: {byte_text(len(data), 'kB')}")

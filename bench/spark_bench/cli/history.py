"""`spark-bench history`: the results that are remembered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from spark_bench.cli.commands import say
from spark_bench.cli.history_options import STORE, filtered, filters, opened
from spark_bench.printable import json_text, printable

EMPTY = "no such result: spark-bench run adds each, spark-bench history add FILES… those there are"


class _Lists(click.Group):
    """A group whose first command is meant where only options are given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("history", cls=_Lists)
def command() -> None:
    """List results, find them again, and follow a figure over time.

    `spark-bench run` adds each result. Without a command, `list` is meant. An ID may be the
    beginning of one, or what `list` shows of it.
    """


@command.command("list")
@filtered
@click.option("--limit", metavar="N", type=click.IntRange(1), default=20, show_default=True)
@STORE
def list_(place: Path | None, limit: int, **typed: Any) -> None:
    """List results, the newest first."""
    from spark_bench.display.terminal import print_all
    from spark_bench.history.table import FIGURES, table

    with opened(place) as store:
        found = store.entries(filters(typed), limit=limit + 1, figures=FIGURES)
    if not found:
        click.echo(EMPTY, err=True)
        return
    print_all([table(found[:limit])])
    if len(found) > limit:
        click.echo(f"these are the newest {limit}: --limit shows more", err=True)


@command.command()
@click.argument("id", required=False)
@STORE
def show(place: Path | None, id: str | None) -> None:
    """Show a result as `run` did; without an ID, the newest."""
    from spark_bench.display.result_tables import result_tables
    from spark_bench.display.terminal import print_all
    from spark_bench.errors import BadInput
    from spark_bench.history.ids import resolve
    from spark_bench.results.codec import read

    with opened(place) as store:
        ids = store.ids()
        if not ids:
            raise BadInput(EMPTY)
        entry = store.entry(resolve(id or max(ids), ids))
    if not Path(entry.path).exists():
        raise BadInput(
            f"{entry.path}: the file of {entry.id} is gone: spark-bench history add FILE from "
            "where it is now, or spark-bench history forget --missing"
        )
    result = read(Path(entry.path))
    if result.id != entry.id:
        raise BadInput(
            f"{entry.path} holds {result.id} now: {entry.id} was there before and was written "
            "over; spark-bench history forget drops it"
        )
    print_all(result_tables(result))
    click.echo(f"{printable(entry.id)}\n{printable(entry.path)}")


@command.command()
@filtered
@click.option("--csv", "form", flag_value="csv", default="csv", help="With a header (default).")
@click.option("--json", "form", flag_value="json", help="A list of objects.")
@STORE
def export(place: Path | None, form: str, **typed: Any) -> None:
    """Print results with all their figures, the newest first."""
    from spark_bench.history.export import as_json, write_csv

    with opened(place) as store:
        entries = store.entries(filters(typed), figures=None)
    if form == "json":
        click.echo(json_text(as_json(entries)))
    else:
        write_csv(entries, sys.stdout)


@command.command()
@click.argument("files", nargs=-1, required=True)
@STORE
def add(place: Path | None, files: tuple[str, ...]) -> None:
    """Add result files; folders and globs stand for the results in them."""
    from spark_bench.history.files import collect

    found = collect(files)
    with opened(place) as store:
        store.add(found.entries)
    other = f", {found.others} other JSON files left out" if found.others else ""
    click.echo(f"{_results(len(found.entries))} added{other}")
    for sentence in found.refused:
        say(f"left out: {sentence}")
    if found.refused:
        raise click.exceptions.Exit(1)


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--missing", is_flag=True, help="Those whose file is gone.")
@STORE
def forget(place: Path | None, ids: tuple[str, ...], missing: bool) -> None:
    """Forget results; their files stay."""
    from spark_bench.errors import BadInput
    from spark_bench.history.ids import resolve

    if not ids and not missing:
        raise BadInput("forget: nothing is named: give an ID, or --missing")
    with opened(place) as store:
        known = store.ids()
        chosen = {resolve(id, known) for id in ids}
        if missing:
            chosen |= {e.id for e in store.entries() if not Path(e.path).exists()}
        store.forget(sorted(chosen))
    click.echo(f"{_results(len(chosen))} forgotten")


@command.command()
@click.argument("metric", default="output_throughput")
@filtered
@click.option("--like", metavar="ID", help="Of that result's model, load and number of nodes.")
@STORE
def trend(place: Path | None, metric: str, like: str | None, **typed: Any) -> None:
    """Draw a figure over time, for one model under one load.

    METRIC is a key of a result's summary (output_throughput) or short (ttft, ttft_p99, itl).
    Without --like, it is about the newest result that passes the filters.
    """
    from spark_bench.compare.names import find
    from spark_bench.history import plot
    from spark_bench.history.ids import resolve
    from spark_bench.history.trend import trend

    name = find(metric, "METRIC")
    with opened(place) as store:
        one = store.entry(resolve(like, store.ids())) if like else None
        found = trend(store.entries(filters(typed), figures=(name,)), name, one)
    if not found or not found.points:
        click.echo(f"no complete result with {name}: spark-bench history list", err=True)
        return
    click.echo("\n".join(map(printable, plot.lines(found))))
    if found.left_out:
        click.echo(
            f"{_results(found.left_out)} left out: partial, without {name}, or of another model, "
            "load or number of nodes (--like ID chooses)",
            err=True,
        )


def _results(count: int) -> str:
    return f"{count} result{'' if count == 1 else 's'}"

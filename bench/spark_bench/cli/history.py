"""`spark-bench history`: the results of past runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spark_bench.cli.commands import print_message
from spark_bench.errors import BadInput
from spark_bench.printable import json_text, printable

if TYPE_CHECKING:
    from spark_bench.history.database import Filters, HistoryStore

EMPTY = (
    "no such result: spark-bench run and quality add their own, "
    "spark-bench history add FILES… adds others"
)
STORE = click.option(
    "--store",
    "place",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SPARK_BENCH_HISTORY",
    show_envvar=True,
    help="Default: spark-bench/history.sqlite3 in $XDG_DATA_HOME or ~/.local/share.",
)
_FILTERS: tuple[Callable[[Any], Any], ...] = (
    click.option("--model", metavar="PART", default="", help="Part of the model's name."),
    click.option("--profile", metavar="NAME", default="", help="The profile, as it is called."),
    click.option("--load", metavar="PART", default="", help="Part of the load: 128/128, c4, r2."),
    click.option("--url", metavar="PART", default="", help="Part of the server's URL."),
    click.option("--since", metavar="TIME", help="7d (also m, h, w), or 2026-11-23[T14:30]."),
    click.option("--until", metavar="TIME", help="Before then."),
    click.option("--status", type=click.Choice(["complete", "partial"]), default=None),
    click.option("--verdict", type=click.Choice(["exact", "approximate"]), default=None),
)
FILTER_NAMES = ("model", "profile", "load", "url", "since", "until", "status", "verdict")


def filter_flags(function: Callable[..., Any]) -> Any:
    """Add the filter options; `parse_filters` reads the values from the keyword arguments."""
    return reduce(lambda decorated, flag: flag(decorated), reversed(_FILTERS), function)


def parse_filters(typed: dict[str, Any]) -> Filters:
    """Turn the typed options into filters. Raises BadInput for an invalid time."""
    from spark_bench.history.database import Filters, parse_moment

    words = {name: typed[name] or "" for name in FILTER_NAMES}
    now = datetime.now().astimezone()
    for name in ("since", "until"):
        if words[name]:
            words[name] = parse_moment(words[name], f"--{name}", now)
    return Filters(**words)


def open_store(place: Path | None) -> HistoryStore:
    """The store at `place`, or the default one."""
    from spark_bench.history.database import HistoryStore, default_store

    return HistoryStore(place or default_store())


class _ListByDefault(click.Group):
    """A group that runs `list` if no command is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("history", cls=_ListByDefault)
def command() -> None:
    """List, search and plot past results.

    `spark-bench run` adds each result. Without a command, it lists. An ID may be abbreviated to its
    beginning, or to what `list` shows of it.
    """


@command.command("list")
@filter_flags
@click.option("--limit", metavar="N", type=click.IntRange(1), default=20, show_default=True)
@STORE
def list_results(place: Path | None, limit: int, **typed: Any) -> None:
    """List results, the newest first."""
    from spark_bench.display.terminal import print_all
    from spark_bench.history.history_tables import FIGURES, SCORE, history_table

    with open_store(place) as store:
        entries = store.entries(parse_filters(typed), limit=limit + 1, figures=(*FIGURES, SCORE))
    if not entries:
        click.echo(EMPTY, err=True)
        return
    print_all([history_table(entries[:limit])])
    if len(entries) > limit:
        click.echo(f"showing the newest {limit}: --limit N shows more", err=True)


@command.command("show")
@click.argument("id", required=False)
@STORE
def show_result(place: Path | None, id: str | None) -> None:
    """Show a result as `run` printed it; without an ID, the newest."""
    from spark_bench.display import quality_tables, tables, terminal
    from spark_bench.history.database import resolve_id
    from spark_bench.results import files
    from spark_bench.results.codec import read_quality, read_result
    from spark_bench.results.quality_schema import QualityResult

    with open_store(place) as store:
        ids = store.ids()
        if not ids:
            raise BadInput(EMPTY)
        entry = store.entry(resolve_id(id or max(ids), ids))
    if not Path(entry.path).exists():
        raise BadInput(
            f"{entry.path}: the file of {entry.id} is gone: spark-bench history add FILE from "
            "where it is now, or spark-bench history forget --missing"
        )
    path = Path(entry.path)
    result = read_quality(path) if files.claims_quality(path) else read_result(path)
    if result.id != entry.id:
        raise BadInput(
            f"{entry.path} holds {result.id} now: {entry.id} was there before and was written "
            "over; spark-bench history forget drops it"
        )
    if isinstance(result, QualityResult):
        terminal.print_all(quality_tables.quality_tables(result))
    else:
        terminal.print_all(tables.result_tables(result))
    click.echo(f"{printable(entry.id)}\n{printable(entry.path)}")


@command.command("export")
@filter_flags
@click.option("--csv", "form", flag_value="csv", default="csv", help="With a header (default).")
@click.option("--json", "form", flag_value="json", help="A list of objects.")
@STORE
def export_results(place: Path | None, form: str, **typed: Any) -> None:
    """Print results with all their figures, the newest first."""
    from spark_bench.history.history_tables import as_json, write_csv

    with open_store(place) as store:
        entries = store.entries(parse_filters(typed), figures=None)
    if form == "json":
        click.echo(json_text(as_json(entries)))
    else:
        write_csv(entries, sys.stdout)


@command.command("add")
@click.argument("files", nargs=-1, required=True)
@STORE
def add_results(place: Path | None, files: tuple[str, ...]) -> None:
    """Add result files; folders and globs stand for the results in them."""
    from spark_bench.history.entry import collect_results

    collected = collect_results(files)
    with open_store(place) as store:
        store.add(collected.entries)
    other = f", {collected.others} other JSON files left out" if collected.others else ""
    click.echo(f"{_results(len(collected.entries))} added{other}")
    for sentence in collected.refused:
        print_message(f"left out: {sentence}")
    if collected.refused:
        raise click.exceptions.Exit(1)


@command.command("forget")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--missing", is_flag=True, help="Remove those whose file is gone.")
@STORE
def forget_results(place: Path | None, ids: tuple[str, ...], missing: bool) -> None:
    """Remove results from the history; their files stay."""
    from spark_bench.history.database import resolve_id

    if not ids and not missing:
        raise BadInput("forget: name a result: give an ID, or --missing")
    with open_store(place) as store:
        all_ids = store.ids()
        chosen = {resolve_id(id, all_ids) for id in ids}
        if missing:
            chosen |= {e.id for e in store.entries() if not Path(e.path).exists()}
        store.forget(sorted(chosen))
    click.echo(f"{_results(len(chosen))} forgotten")


@command.command("trend")
@click.argument("metric", default="output_throughput")
@filter_flags
@click.option(
    "--like", metavar="ID", help="Only with that result's model, load and number of nodes."
)
@STORE
def plot_trend(place: Path | None, metric: str, like: str | None, **typed: Any) -> None:
    """Plot a figure over time, for one model under one load.

    METRIC is a key of a result's summary (output_throughput) or short (ttft, ttft_p99, itl), or a
    task of spark-bench quality (arith), whose score is plotted, from 0 to 1. Without --like, it
    follows the newest result that passes the filters.
    """
    from spark_bench.compare.metric_names import find_metric, is_figure
    from spark_bench.history.database import resolve_id
    from spark_bench.history.history_tables import SCORE, find_trend, trend_lines

    filters = parse_filters(typed)
    with open_store(place) as store:
        one = store.entry(resolve_id(like, store.ids())) if like else None
        name, entries = SCORE, store.entries(filters, figures=(SCORE,))
        entries = [entry for entry in entries if entry.profile == metric and entry.figures]
        if is_figure(metric) or not entries:
            name = find_metric(metric, "METRIC")
            entries = store.entries(filters, figures=(name,))
        line = find_trend(entries, name, one)
    if not line or not line.points:
        click.echo(f"no complete result with {name}: spark-bench history list", err=True)
        return
    click.echo("\n".join(map(printable, trend_lines(line))))
    if line.left_out:
        click.echo(
            f"{_results(line.left_out)} left out: partial, without {name}, or of another model, "
            "load or number of nodes (--like ID chooses)",
            err=True,
        )


def _results(count: int) -> str:
    return f"{count} result{'' if count == 1 else 's'}"

"""The history as tables for the terminal, as CSV or JSON, and a figure over time as a plot."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TextIO

import msgspec
from msgspec import Struct
from rich import box
from rich.table import Table

from spark_bench.compare.scores import score_part, why_unusable
from spark_bench.display.quality_tables import share_text
from spark_bench.errors import BadInput
from spark_bench.formats import digits
from spark_bench.history import database
from spark_bench.history.entry import COLUMNS, HistoryEntry, server_key
from spark_bench.printable import cell, printable
from spark_bench.results import codec, schema

# Scores of a model whose server is compared with a run's.
MOST_LOOKED_AT = 30
# The figures in the table.
FIGURES = ("output_throughput", "median_ttft_ms", "median_itl_ms")
SCORE = "score"  # what the share of right answers is called there


def history_table(entries: Iterable[HistoryEntry]) -> Table:
    """Two lines per result, in the order given; times are local.

    The verdict of a quality result is its score, with its interval.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.caption = "TTFT and ITL are medians in milliseconds; of a task, the score is the verdict."
    table.caption_justify = "left"
    table.add_column("when\nid", no_wrap=True)
    table.add_column("model\nfile", overflow="fold", ratio=1)
    table.add_column("profile\nload", overflow="fold")
    for name in ("tok/s", "TTFT", "ITL"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for entry in entries:
        figures = [entry.figures.get(name) for name in FIGURES]
        outcome = [entry.verdict]
        if score := entry.figures.get(SCORE):
            outcome = [f"{100 * score.value:.1f} %"]
            if score.low is not None and score.high is not None:
                outcome.append(f"{100 * score.low:.0f} to {100 * score.high:.0f}")
        when, id = f"{entry.when.astimezone():%Y-%m-%d %H:%M}", database.short_run_id(entry.id)
        table.add_row(
            f"{when}\n{printable(id)}",
            f"{printable(short_model(entry.model))}\n{printable(short_path(Path(entry.path)))}",
            f"{printable(entry.profile)}\n{printable(entry.load)}",
            *(digits(figure.value if figure else None) for figure in figures),
            "\n".join(outcome if entry.status == "complete" else [*outcome, entry.status]),
        )
    return table


def short_model(model: str) -> str:
    """A model's name without its owner.

    >>> short_model("openai/gpt-oss-120b")
    'gpt-oss-120b'
    """
    return model.rstrip("/").rpartition("/")[2]


def short_path(path: Path) -> str:
    """A path relative to the current or home folder, if inside; marked if it is gone."""
    gone = "" if path.exists() else " (gone)"
    for base, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return f"{name}{path.relative_to(base)}{gone}"
    return f"{path}{gone}"


def as_json(entries: Sequence[HistoryEntry]) -> bytes:
    """A JSON list of objects with the same keys; missing figures are null."""
    names = export_columns(entries)
    rows = [{name: row.get(name) for name in names} for row in (e.plain() for e in entries)]
    return msgspec.json.format(msgspec.json.encode(rows))


def write_csv(entries: Sequence[HistoryEntry], file: TextIO) -> None:
    """CSV with a header; missing figures are empty, and no text is a formula."""
    names = export_columns(entries)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(cell, names))
    for row in (entry.plain() for entry in entries):
        writer.writerow(cell(row.get(name, "")) for name in names)


def export_columns(entries: Sequence[HistoryEntry]) -> list[str]:
    """The columns of every result, then all figures that any of them has, sorted."""
    return [*COLUMNS, *sorted({name for entry in entries for name in entry.figures} - {*COLUMNS})]


def score_sentences(result: schema.Result, store: database.HistoryStore) -> Iterator[str]:
    """The newest score of each task of what served a run, with its interval and its time."""
    config = result.config
    served = server_key(result.provenance, config.url, config.model)
    filters = database.Filters(model=config.model, verdict="quality", status="complete")
    done: set[str] = set()
    for entry in store.entries(filters, limit=MOST_LOOKED_AT):
        try:
            quality = codec.read_quality(Path(entry.path))
        except BadInput:
            continue
        own, score = quality.config, quality.score
        same = server_key(quality.provenance, own.url, own.model) == served
        if not same or own.task in done or score.low is None or score.high is None:
            continue
        done.add(own.task)
        problem = why_unusable(score_part(Path(entry.path), quality))
        within = f"{share_text(score.low)} to {share_text(score.high)}"
        yield (
            f"{own.task} {share_text(score.score)} ({within}), "
            f"{entry.when.astimezone():%Y-%m-%d %H:%M}{f'; WRONG: {problem}' * bool(problem)}"
        )


class TrendPoint(Struct, frozen=True):
    """A run's figure; low, high: its confidence interval, if there is one."""

    id: str
    when: datetime
    value: float
    low: float | None = None
    high: float | None = None


class Trend(Struct, frozen=True):
    """The figures of runs that can be compared, oldest first.

    left_out: results that are partial, lack the figure, or differ in model, load or nodes
    """

    metric: str
    model: str
    load: str
    nodes: int | None
    points: tuple[TrendPoint, ...]
    left_out: int = 0

    @property
    def change(self) -> float | None:
        """The last value relative to the median of those before, less 1; None if there are none."""
        before = [point.value for point in self.points[:-1]]
        if not before or not (middle := median(before)):
            return None
        return self.points[-1].value / middle - 1


def find_trend(
    entries: Iterable[HistoryEntry], metric: str, like: HistoryEntry | None = None
) -> Trend | None:
    """The trend of a figure over these results; None if none of them has it.

    metric: a key of their `figures`
    like: which model, load and number of nodes; None: those of the newest that has the figure
    """
    candidates = list(entries)
    whole = [e for e in candidates if metric in e.figures and e.status == "complete"]
    whole.sort(key=lambda entry: (entry.created, entry.id))
    like = like or (whole[-1] if whole else None)
    if like is None:
        return None
    points = []
    for entry in whole:
        if (entry.model, entry.load, entry.nodes) == (like.model, like.load, like.nodes):
            figure = entry.figures[metric]
            point = TrendPoint(entry.id, entry.when, figure.value, figure.low, figure.high)
            points.append(point)
    left_out = len(candidates) - len(points)
    return Trend(metric, like.model, like.load, like.nodes, tuple(points), left_out)


WIDTH = 80
HEIGHT = 16
# Times below the plot: as many as fit.
TICKS = 5


def trend_lines(trend: Trend, width: int = WIDTH) -> Iterator[str]:
    """A title, the plot if there are two points or more, and every value. No color."""
    on = f" on {trend.nodes} node{'s' if trend.nodes != 1 else ''}" if trend.nodes else ""
    yield f"{trend.metric} of {short_model(trend.model)}{on}, {trend.load}"
    if len(trend.points) > 1:
        yield ""
        yield from draw_points(trend.points, width)
    yield ""
    yield from (point_line(point) for point in trend.points)
    if trend.change is not None:
        before = len(trend.points) - 1
        yield f"the last is {trend.change:+.1%} from the median of the previous {before}"


def point_line(point: TrendPoint) -> str:
    """A point as a line: time, id, value with its interval."""
    within = ""
    if point.low is not None and point.high is not None:
        within = f"  [{digits(point.low)}, {digits(point.high)}]"
    when = f"{point.when.astimezone():%Y-%m-%d %H:%M}"
    return f"{when}  {database.short_run_id(point.id)}  {digits(point.value)}{within}"


def draw_points(
    points: Sequence[TrendPoint], width: int = WIDTH, height: int = HEIGHT
) -> list[str]:
    """Plot the values over time, a dot per run; width in columns, height in lines."""
    import plotext  # type: ignore[import-untyped]

    times = [point.when.timestamp() for point in points]
    values = [point.value for point in points]
    # Evenly spaced times: days, or hours and minutes within two days.
    first, span = points[0].when, points[-1].when - points[0].when
    form = "%m-%d" if span > timedelta(days=2) else "%d. %H:%M"
    ticks = [first + span * step / (TICKS - 1) for step in range(TICKS)]
    labels = [f"{tick.astimezone():{form}}" for tick in ticks]
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.draw(figure.signal(times, values, marker="braille").lines())
    figure.draw(figure.signal(times, values, marker="●"))
    figure.ruler("x").ticks([tick.timestamp() for tick in ticks], labels)
    text: str = plotext.uncolorize(figure.build().string())
    figure.clear()
    return [line.rstrip() for line in text.splitlines()]

"""Tables of what only some runs have, each left out if none has it: accepted lengths, speed at
depths, and short and long prompts apart."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from spark_bench.display.result_lines import NONE_ACCEPTED, SOURCES, bound_text, course_text
from spark_bench.formats import digits
from spark_bench.metrics.accepted import Accepted
from spark_bench.metrics.depth import Speed, SpeedRow
from spark_bench.metrics.mixed import LatencySpread, MixedFigures
from spark_bench.report.named_runs import NamedRun
from spark_bench.report.page_table import NONE, Cell, Column, Table, Tone, number_cells


class SpecialTable(Struct, frozen=True):
    """A table under a heading, which is its caption; lead: what it shows."""

    id: str
    lead: str
    table: Table


def build_special(runs: Sequence[NamedRun]) -> Iterator[SpecialTable]:
    """The tables of these runs, in page order."""
    drafted = [(named, named.run.accepted) for named in runs if named.run.accepted]
    if drafted:
        lead = (
            "Tokens that each decode step gave: accepted drafts and one more. A step's tokens come "
            "in one event; where events may hold several steps, no figure is claimed."
        )
        yield SpecialTable("accepted", lead, _accepted_table(drafted))
    if mixes := [(named, named.run.mixed) for named in runs if named.run.mixed]:
        lead = (
            "Short and long prompts of one load. Prefill: the ITL of short answers while a "
            "long prompt waited for its first token, and otherwise."
        )
        yield SpecialTable("mixed", lead, _mixed_table(mixes))
    if deep := [(named, row) for named in runs for row in named.run.rows]:
        lead = (
            "Tokens per second in llama-benchy's rows: pp, prefill of the prompt after a context "
            "of d tokens; tg, decode; ctx, of the contexts alone, where they were sent before."
        )
        yield SpecialTable("depth", lead, _depth_table(deep))


def run_cell(named: NamedRun) -> Cell:
    """A run\'s model and number, linked to its row in the table of all runs."""
    return Cell(f"#{named.number} {named.model}", named.number, named.variant, f"#{named.anchor}")


def _accepted_table(drafted: Sequence[tuple[NamedRun, Accepted]]) -> Table:
    columns = (
        Column("Run", numeric=False),
        Column("Load", numeric=False),
        Column("Accepted", "tokens"),
        Column("Std", "tokens"),
        Column("Over the answer", "tokens", numeric=False),
        Column("Engine's own", "tokens"),
        Column("Taken from", numeric=False),
    )
    means = number_cells([None if each.unclear else each.mean for _, each in drafted])
    spreads = number_cells([None if each.unclear else each.std for _, each in drafted])
    engines = number_cells([each.engine for _, each in drafted])
    rows = []
    for index, (named, each) in enumerate(drafted):
        mean, words = means[index], [SOURCES.get(word, word) for word in each.source.split(", ")]
        course, origin = NONE, Cell("not known", detail=each.unclear, tone="warn")
        if not each.unclear:
            answers = f"answers {each.low:.2f} to {each.high:.2f}"
            tone: Tone = "warn" if each.mean < NONE_ACCEPTED else ""
            mean = Cell(mean.text, mean.value, answers, tone=tone)
            course = Cell(course_text(each))
            origin = Cell(", ".join(words), detail=f"{sum(each.steps):,} events")
        load = Cell(named.run.entry.load)
        rows.append((run_cell(named), load, mean, spreads[index], course, engines[index], origin))
    return Table("Speculative decoding", columns, tuple(rows))


def _depth_table(deep: Sequence[tuple[NamedRun, SpeedRow]]) -> Table:
    columns = (
        Column("Test", numeric=False),
        Column("Run", numeric=False),
        Column("Speed", "tok/s"),
        Column("Per request", "tok/s"),
        Column("Peak", "tok/s"),
        Column("TTFT", "ms"),
    )
    rows = [
        (
            Cell(row.test),
            run_cell(named),
            *(
                _speed_cell(name, getattr(row, name))
                for name in ("speed", "each", "peak", "ttft_ms")
            ),
        )
        for named, row in deep
    ]
    return Table("Speed at depths", columns, tuple(rows))


def _mixed_table(mixes: Sequence[tuple[NamedRun, MixedFigures]]) -> Table:
    columns = (
        Column("Run", numeric=False),
        Column("Requests", numeric=False),
        *(
            Column(f"{name} {rank}", "ms")
            for name in ("TTFT", "ITL", "E2E")
            for rank in ("p50", "p99")
        ),
    )
    rows = []
    for named, mixed in mixes:
        for words, kind in (("short", mixed.short), ("long", mixed.long)):
            spreads = (kind.ttft_ms, kind.itl_ms, kind.e2e_latency_ms)
            requests = Cell(f"{kind.completed} {words}", detail=named.run.entry.load)
            rows.append((run_cell(named), requests, *_pairs(spreads)))
        for words, spread in (
            (f"short, while a long one waits ({mixed.share:.0%} of the time)", mixed.during),
            ("short, otherwise", mixed.otherwise),
        ):
            none = (NONE, NONE)
            rows.append((run_cell(named), Cell(words), *none, *_pairs([spread]), *none))
    return Table("Long prompts among short ones", columns, tuple(rows))


def _speed_cell(name: str, speed: Speed | None) -> Cell:
    """A mean with its standard deviation, and how far it may be off."""
    if speed is None:
        return NONE
    off = bound_text(name, speed.mean, speed.bound, places=2)
    detail = ", ".join(filter(None, (f"± {speed.std:.2f}", off)))
    return Cell(f"{speed.mean:,.2f}", speed.mean, detail)


def _pairs(spreads: Sequence[LatencySpread]) -> list[Cell]:
    """p50 and p99 of each, and how far they may be off."""
    cells = []
    for spread in spreads:
        bounds = spread.bounds or {}
        for name, value in (("p50", spread.p50), ("p99", spread.p99)):
            off = bound_text(f"{name}_ms", value, bounds.get(name))
            cells.append(NONE if value is None else Cell(digits(value), value, off))
    return cells

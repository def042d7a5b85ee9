"""Everything on the page, from runs: tables, charts, and what a reader should know before trusting
figures; and the page as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from msgspec import Struct

from spark_bench import expectations, formats
from spark_bench.printable import printable
from spark_bench.protocol.failures import cure, meaning
from spark_bench.report import figure_tables as tables, special_tables
from spark_bench.report.charts.over_time import choose_timeline_run
from spark_bench.report.gather import Gathered, Unmeasured
from spark_bench.report.named_runs import NamedRun, name_runs
from spark_bench.report.page_table import Table, Tone
from spark_bench.report.quality_section import QualitySection, quality_section
from spark_bench.report.sections import Section, build_sections, label_colors
from spark_bench.results.codec import read_result


class Expected(Struct, frozen=True):
    """A run's expectations as (subject, sentence)."""

    named: NamedRun
    lines: tuple[tuple[str, str], ...]


class Page(Struct, frozen=True, kw_only=True):
    """What the template shows, in order."""

    title: str
    created: datetime
    version: str
    runs: tuple[NamedRun, ...]
    times: tuple[datetime, ...]
    models: int
    scores: int
    requests: int
    failed: int
    exact: int
    headline: Table
    matrix: Table
    waits: Table | None
    baseline: tables.Baseline | None
    published: tables.PublishedComparison | None
    quality: QualitySection | None
    special: tuple[special_tables.SpecialTable, ...]
    sections: tuple[Section, ...]
    expected: tuple[Expected, ...]
    exactness: str
    remarks: tuple[Remark, ...]
    origins: tuple[tuple[tuple[tuple[str, str], ...], Remark], ...]
    unmeasured: tuple[Unmeasured, ...]
    damaged: tuple[str, ...]
    most_remarks: int = 100

    @property
    def first(self) -> datetime:
        return min(self.times)

    @property
    def last(self) -> datetime:
        return max(self.times)


def build_page(
    gathered: Gathered, title: str, created: datetime, wanted: str | None = None
) -> Page:
    """Build the page.

    wanted: the run whose timeline is shown; None: the newest that has one

    BadInput if there is no such run.
    """
    from spark_bench import __version__

    runs, labels = name_runs(gathered)
    entries = [run.entry for run in gathered.runs] + [score.entry for score in gathered.scores]
    wrong = {named.run.server: named.wrong for named in runs if named.wrong}
    warned = {named.run.server: named.warned for named in runs if named.warned}
    chosen = choose_timeline_run(runs, wanted)
    leaders = tables.best_runs(runs)
    indices = label_colors(runs)
    judgments = []
    for named in leaders:
        result = read_result(Path(named.run.entry.path))
        lines = tuple(expectations.expectation_lines(result)) if named.run.measured else ()
        judgments.append((expectations.judge_result(result)[0], Expected(named, lines)))
    return Page(
        title=title,
        created=created,
        version=__version__,
        runs=runs,
        times=tuple(entry.when for entry in entries),
        models=len({entry.model for entry in entries}),
        scores=len(gathered.scores),
        requests=sum(named.run.sent for named in runs),
        failed=sum(named.run.entry.failed for named in runs),
        exact=sum(named.run.entry.verdict == "exact" for named in runs),
        headline=tables.headline_table(
            leaders, [roofline for roofline, _ in judgments], gathered.unmeasured
        ),
        matrix=tables.all_runs_table(runs),
        waits=tables.waits_table(runs),
        baseline=tables.compare_with_baseline(gathered.words),
        published=tables.published_figures(runs),
        quality=quality_section(gathered.scores, labels, wrong, warned),
        special=tuple(special_tables.build_special(runs)),
        sections=tuple(build_sections(runs, leaders, chosen, indices)),
        expected=tuple(expected for _, expected in judgments if expected.lines),
        exactness=exactness_text(runs),
        remarks=collect_remarks(runs),
        origins=origins(runs),
        unmeasured=gathered.unmeasured,
        damaged=gathered.damaged,
    )


def render_html(page: Page) -> bytes:
    """Render the page as one self-contained file."""
    return _environment().get_template("page.html").render(page=page).encode()


@cache
def _environment() -> Environment:
    def shown(value: Any) -> Any:
        # A chart is markup whose text is printable already.
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return printable(value, lines=True) if plain else value

    return Environment(
        # Whatever results contain is text, never markup.
        autoescape=True,
        finalize=shown,
        loader=PackageLoader("spark_bench.report", "template"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


MOST_LINKS = 12


class Remark(Struct, frozen=True):
    """about: "Failed requests", "Client" …; text: the sentence; cure: what to do, or ""

    runs: those it concerns; `more` of them are not linked
    """

    about: str
    text: str
    runs: tuple[NamedRun, ...]
    cure: str = ""
    tone: Tone = ""

    @property
    def linked(self) -> tuple[NamedRun, ...]:
        return self.runs[:MOST_LINKS]

    @property
    def more(self) -> int:
        return len(self.runs) - len(self.linked)


def collect_remarks(runs: Iterable[NamedRun]) -> tuple[Remark, ...]:
    """Remarks on the runs, worst first; one remark for all runs it concerns."""
    by_remark: dict[tuple[str, str, str, Tone], list[NamedRun]] = {}
    for named in runs:
        for remark in _run_remarks(named):
            by_remark.setdefault(remark, []).append(named)
    remarks = [Remark(key[0], key[1], tuple(of), key[2], key[3]) for key, of in by_remark.items()]
    order: Sequence[Tone] = ("bad", "warn", "")
    return tuple(sorted(remarks, key=lambda remark: order.index(remark.tone)))


_BOUNDS = (
    "Below a figure, ≤ says how far it is off in its run at most, and two numbers are its lowest "
    "and its highest value, where it is not exact; nothing: its digits hold. ± is how far another "
    "run may be from it, at 95%."
)


def exactness_text(runs: Sequence[NamedRun]) -> str:
    """How accurate the page's figures are, in sentences."""
    kernel = sum(named.run.kernel for named in runs)
    lag = max((named.run.lag_us for named in runs), default=0.0)
    late = max((named.run.late_us for named in runs), default=0.0)
    checked = sum(named.run.checked for named in runs)
    differing = sum(named.run.differing for named in runs)
    clocks = "all runs" if kernel == len(runs) else f"{kernel:,} of {len(runs):,} runs"
    prompts = (
        f"{checked - differing:,} of {checked:,} prompts were as long as requested."
        if checked
        else "No prompt lengths were checked."
    )
    return (
        f"Receive times come from the kernel in {clocks}; at p99 the client read at most "
        f"{formats.digits(lag, 'µs')} later and sent at most {formats.digits(late, 'µs')} "
        f"late. {prompts}" + (f" {_BOUNDS}" if any(named.run.bounds for named in runs) else "")
    )


def origins(runs: Iterable[NamedRun]) -> tuple[tuple[tuple[tuple[str, str], ...], Remark], ...]:
    """(what runs were measured with, which runs), most frequent first."""
    by_origin: dict[tuple[tuple[str, str], ...], list[NamedRun]] = {}
    for named in runs:
        by_origin.setdefault(named.run.origin, []).append(named)
    ordered = sorted(by_origin.items(), key=lambda each: -len(each[1]))
    return tuple((pairs, Remark("", "", tuple(of))) for pairs, of in ordered)


def _run_remarks(named: NamedRun) -> Iterator[tuple[str, str, str, Tone]]:
    """(about, text, cure, tone)."""
    run = named.run
    if named.wrong:
        yield "Wrong answers", named.wrong, "serve another variant, image or kv_cache_dtype", "bad"
    if named.warned:
        yield "Warned by the probes", named.warned, "measure it with spark-bench quality", "warn"
    for kind in run.failures:
        yield "Failed requests", f"{kind}: {meaning(kind)}", cure(kind), "bad"
    if run.entry.status == "partial":
        yield (
            "Partial",
            f"ended before its last request: {run.reason or 'for an unknown reason'}",
            "",
            "warn",
        )
    for reason in run.reasons:
        yield "Approximate", reason, "", "warn"
    if run.lengths:
        yield "Lengths", run.lengths, "", ""
    for note in run.notes:
        yield "Note", note, "", ""

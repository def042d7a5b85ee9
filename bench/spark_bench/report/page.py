"""Everything on the page, from runs, and the page as HTML."""

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from msgspec import Struct

from spark_bench.expectations import Expectation, expectation_lines, judge_result
from spark_bench.printable import printable
from spark_bench.report.charts.over_time import choose_timeline_run
from spark_bench.report.figure_tables import (
    Baseline,
    all_runs_table,
    best_runs,
    compare_with_baseline,
    headline_table,
)
from spark_bench.report.gather import Gathered, Unmeasured
from spark_bench.report.named_runs import NamedRun, name_runs
from spark_bench.report.page_table import Table
from spark_bench.report.remarks import Remark, collect_remarks, exactness_text, origins
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
    models: int
    requests: int
    failed: int
    exact: int
    headline: Table
    matrix: Table
    baseline: Baseline | None
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
        return min(named.run.entry.when for named in self.runs)

    @property
    def last(self) -> datetime:
        return max(named.run.entry.when for named in self.runs)


def build_page(
    gathered: Gathered, title: str, created: datetime, wanted: str | None = None
) -> Page:
    """Build the page; wanted: the run whose timeline is shown; None: the newest that has one.

    BadInput if there is no such run.
    """
    from spark_bench import __version__

    runs = name_runs(gathered.runs)
    chosen = choose_timeline_run(runs, wanted)
    leaders = best_runs(runs)
    indices = label_colors(runs)
    judgments = [_expected(named) for named in leaders]
    return Page(
        title=title,
        created=created,
        version=__version__,
        runs=runs,
        models=len(leaders),
        requests=sum(named.run.sent for named in runs),
        failed=sum(named.run.entry.failed for named in runs),
        exact=sum(named.run.entry.verdict == "exact" for named in runs),
        headline=headline_table(
            leaders, [roofline for roofline, _ in judgments], gathered.unmeasured
        ),
        matrix=all_runs_table(runs),
        baseline=compare_with_baseline(gathered.words),
        sections=tuple(build_sections(runs, leaders, chosen, indices)),
        expected=tuple(expected for _, expected in judgments if expected.lines),
        exactness=exactness_text(runs),
        remarks=collect_remarks(runs),
        origins=origins(runs),
        unmeasured=gathered.unmeasured,
        damaged=gathered.damaged,
    )


def _expected(named: NamedRun) -> tuple[Expectation, Expected]:
    """The roofline's judgment, and all sentences; none for a run without figures."""
    result = read_result(Path(named.run.entry.path))
    lines = tuple(expectation_lines(result)) if named.run.measured else ()
    return judge_result(result)[0], Expected(named, lines)


def render_html(page: Page) -> bytes:
    """Render the page as one self-contained file."""
    return _environment().get_template("page.html").render(page=page).encode()


def _printable(value: Any) -> Any:
    """What the template shows; a chart is markup made from printable text."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value, lines=True) if plain else value


@cache
def _environment() -> Environment:
    return Environment(
        # Whatever results contain is text, never markup.
        autoescape=True,
        finalize=_printable,
        loader=PackageLoader("spark_bench.report", "template"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

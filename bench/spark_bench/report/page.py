"""Everything that the page says, from runs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from msgspec import Struct

from spark_bench.expectations import Expectation, expectation_lines, judge
from spark_bench.report.baseline import Baseline, beside_baseline
from spark_bench.report.gather import Gathered
from spark_bench.report.matrix import best, headline, matrix
from spark_bench.report.names import Named, name
from spark_bench.report.remarks import Remark, exactness, origins, remarks
from spark_bench.report.sections import Section, colours, sections
from spark_bench.report.table import Table
from spark_bench.report.timeline import choose
from spark_bench.report.unmeasured import Unmeasured
from spark_bench.results.codec import read


class Expected(Struct, frozen=True):
    """One run beside what is known: (what it is about, the sentence)."""

    named: Named
    lines: tuple[tuple[str, str], ...]


class Page(Struct, frozen=True, kw_only=True):
    """What the template shows, in its order."""

    title: str
    made: datetime
    version: str
    runs: tuple[Named, ...]
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


def page(gathered: Gathered, title: str, made: datetime, wanted: str | None = None) -> Page:
    """wanted: the id of the run whose timeline is shown; None: the newest that has one.

    BadInput if there is no such run.
    """
    from spark_bench import __version__

    runs = name(gathered.runs)
    chosen = choose(runs, wanted)
    leaders = best(runs)
    indices = colours(runs)
    found = [_expected(named) for named in leaders]
    return Page(
        title=title,
        made=made,
        version=__version__,
        runs=runs,
        models=len(leaders),
        requests=sum(named.run.sent for named in runs),
        failed=sum(named.run.entry.failed for named in runs),
        exact=sum(named.run.entry.verdict == "exact" for named in runs),
        headline=headline(leaders, [roofline for roofline, _ in found], gathered.unmeasured),
        matrix=matrix(runs),
        baseline=beside_baseline(gathered.words),
        sections=tuple(sections(runs, leaders, chosen, indices)),
        expected=tuple(expected for _, expected in found if expected.lines),
        exactness=exactness(runs),
        remarks=remarks(runs),
        origins=origins(runs),
        unmeasured=gathered.unmeasured,
        damaged=gathered.damaged,
    )


def _expected(named: Named) -> tuple[Expectation, Expected]:
    """The roofline's judgement, and all sentences; of a run without figures there are none."""
    result = read(Path(named.run.entry.path))
    lines = tuple(expectation_lines(result)) if named.run.measured else ()
    return judge(result)[0], Expected(named, lines)

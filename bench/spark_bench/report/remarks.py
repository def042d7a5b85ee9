"""What a reader should know before trusting figures: each remark once, with its runs."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from spark_bench.formats import digits
from spark_bench.protocol.failures import cure, meaning
from spark_bench.report.named_runs import NamedRun
from spark_bench.report.page_table import Tone

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
        for remark in _said(named):
            by_remark.setdefault(remark, []).append(named)
    remarks = [Remark(key[0], key[1], tuple(of), key[2], key[3]) for key, of in by_remark.items()]
    order: Sequence[Tone] = ("bad", "warn", "")
    return tuple(sorted(remarks, key=lambda remark: order.index(remark.tone)))


def exactness_text(runs: Sequence[NamedRun]) -> str:
    """How accurate all of it is, in sentences."""
    kernel = sum(named.run.kernel for named in runs)
    lag = max(named.run.lag_us for named in runs)
    late = max(named.run.late_us for named in runs)
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
        f"{digits(lag, 'µs')} later and sent at most {digits(late, 'µs')} late. {prompts}"
    )


def origins(runs: Iterable[NamedRun]) -> tuple[tuple[tuple[tuple[str, str], ...], Remark], ...]:
    """(what runs were measured with, which runs), most frequent first."""
    by_origin: dict[tuple[tuple[str, str], ...], list[NamedRun]] = {}
    for named in runs:
        by_origin.setdefault(named.run.origin, []).append(named)
    ordered = sorted(by_origin.items(), key=lambda each: -len(each[1]))
    return tuple((pairs, Remark("", "", tuple(of))) for pairs, of in ordered)


def _said(named: NamedRun) -> Iterator[tuple[str, str, str, Tone]]:
    """(about, text, cure, tone)."""
    run = named.run
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

"""A comparison, from its arguments to everything that is reported."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spark_bench.compare import align, gates
from spark_bench.compare.align import Difference
from spark_bench.compare.differences import Matrix, build_matrix
from spark_bench.compare.gates import GateFailed, GateUnjudged, GateVerdict
from spark_bench.compare.metric_names import GOODPUT, choose_metrics
from spark_bench.compare.runs import ComparedRun, load_runs
from spark_bench.errors import BadInput, BenchError
from spark_bench.formats import with_sign

METHOD = (
    "better, worse: p < 5% by Yuen's test on the logarithms of the repeats (Welch's with fewer "
    "than 5), Holm-adjusted over this table; unclear: may be chance. Intervals: 95%, each by "
    "itself. Repeats of one run share one server start: several runs' files tell more."
)


@dataclass(frozen=True)
class Comparison:
    """forbidding: differences that --anyway ignored; explaining: the others."""

    matrix: Matrix
    forbidding: tuple[Difference, ...]
    explaining: tuple[Difference, ...]
    verdicts: tuple[GateVerdict, ...]
    notes: tuple[str, ...]


def compare_runs(
    arguments: Sequence[str],
    metrics: str | None = None,
    gate: str | None = None,
    anyway: bool = False,
) -> Comparison:
    """Compare the runs that `arguments` name, the first being the baseline.

    BadInput for invalid arguments, CantCompare for runs that differ in what determines figures."""
    limits = gates.parse_gates(gate) if gate is not None else ()
    names = (*choose_metrics(metrics), *(limit.name for limit in limits))
    runs = load_runs(arguments)
    forbidding, explaining = align.find_differences(runs)
    if not anyway:
        align.refuse_differences(forbidding, runs)
        if limits:
            align.refuse_inexact(runs)
    if any(each.field.startswith("slo") for each in explaining):
        names = tuple(name for name in names if name not in GOODPUT)
    matrix = build_matrix(runs, tuple(dict.fromkeys(names)))
    if not matrix.names:
        raise BadInput(f"none of these runs has {' or '.join(names)}; choose others with --metrics")
    return Comparison(
        matrix,
        tuple(forbidding),
        tuple(explaining),
        tuple(gates.judge_gates(limits, runs)),
        tuple(_notes(runs, forbidding, explaining)),
    )


def gate_error(verdicts: Sequence[GateVerdict]) -> BenchError | None:
    """The command's error: GateFailed if a gate failed, GateUnjudged if one could not be judged."""
    failed = [verdict_line(each) for each in verdicts if each.outcome == "failed"]
    unjudged = [verdict_line(each) for each in verdicts if each.outcome == "unjudged"]
    if failed:
        return GateFailed("; ".join(failed))
    return GateUnjudged("; ".join(unjudged)) if unjudged else None


def verdict_line(verdict: GateVerdict) -> str:
    """A gate's outcome as a sentence."""
    gate = verdict.gate
    outcome = {"unjudged": "can't be judged"}.get(verdict.outcome, verdict.outcome)
    head = f"gate {gate.text} {outcome} for {verdict.run}"
    if verdict.regression is None:
        return f"{head}: {verdict.why}"
    power = (
        f"95% of comparisons like this find a regression of {verdict.found:.2g} {gate.unit} or more"
    )
    return f"{head}: {_shown(verdict)}; {verdict.why or power}"


def _shown(verdict: GateVerdict) -> str:
    """The figure's own change: for one where higher is better, a regression is negative."""
    sign = -1 if verdict.gate.higher else 1
    ends = sorted(sign * (end or 0.0) for end in (verdict.low, verdict.high))
    unit = verdict.gate.unit
    change = sign * (verdict.regression or 0.0)
    return f"{with_sign(change)} {unit} (99%: {with_sign(ends[0])} to {with_sign(ends[1])} {unit})"


def _notes(
    runs: Sequence[ComparedRun], forbidding: Sequence[Difference], explaining: Sequence[Difference]
) -> Iterator[str]:
    for each in forbidding:
        yield f"compared anyway although {each.field} differs: {align.values(each, runs)}"
    if any(each.field.startswith("slo") for each in explaining):
        yield "the objectives (--slo) differ: goodput is left out"
    for run in runs:
        yield from _of(run)
    if single := [run.letter for run in runs if run.repeats < 2]:
        yield (
            f"{', '.join(single)}: 1 repeat has no spread, so nothing can be called better or "
            "worse; measure with --repeat 5"
        )
    if inexact := [run.letter for run in runs if not align.exact(run)]:
        yield f"figures are approximate in {', '.join(inexact)}; see audit.reasons in the results"
    yield from _shared(runs)


def _of(run: ComparedRun) -> Iterator[str]:
    failed = sum(part.failed for part in run.parts)
    whole = sum(part.completed for part in run.parts)
    early = sum(part.early for part in run.parts)
    if len(run.parts) > 1:
        yield f"{run.letter}: {len(run.parts)} results, pooled as {run.repeats} repeats of one run"
    if run.left_out:
        yield f"{run.name}: left out {run.left_out} files that are not results"
    if failed:
        yield f"{run.letter}: {failed} of {failed + whole} requests failed and count in no figure"
    if early:
        yield f"{run.letter}: {early} of {whole} responses were shorter than requested"


def _shared(runs: Sequence[ComparedRun]) -> Iterator[str]:
    letters: dict[str, str] = {}
    for run in runs:
        for part in run.parts:
            if part.id in letters:
                yield f"{run.letter} and {letters[part.id]} both contain {part.path.name}"
            letters.setdefault(part.id, run.letter)

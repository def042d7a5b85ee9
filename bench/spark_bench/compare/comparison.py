"""A comparison, from its arguments to everything that is reported: which differences in settings
rule it out, which may explain its outcome, the matrix of figures, the gates, and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from spark_bench import errors, formats
from spark_bench.compare import differences, gates, metric_names
from spark_bench.compare.request_pairs import PairedLatency, pair_requests
from spark_bench.compare.runs import ComparedRun, Part, ResultPart, flatten, load_runs
from spark_bench.compare.scores import ScoreRow, compare_scores
from spark_bench.printable import printable

METHOD = (
    "better, worse: p < 5% by Welch's test on the logarithms of the repeats, the first repeat "
    "apart (Yuen's from 10 repeats on), Holm-adjusted over this table; unclear: may be chance. "
    "Intervals: 95%, each by itself. Repeats of one run share one server start: several runs' "
    "files tell more."
)
PAIR_METHOD = (
    "By request: the geometric mean of the same requests' ratios, less the lowest and the highest "
    "fifth of a repeat; intervals and p by a t-test over the repeats, whose requests are not "
    "independent of each other, Holm-adjusted over these rows."
)
SCORE_METHOD = (
    "Scores in %, differences in points over the items that both were asked: better, worse: p < 5% "
    "by McNemar's test, Holm-adjusted over this table; unclear: may be chance. Intervals: 95%, "
    "Tango's, each by itself. Agree: by the value read from the answer, and word for word."
)


@dataclass(frozen=True)
class Comparison:
    """forbidding: differences that --anyway ignored; explaining: the others.

    scores: a row per task that any of the runs has a score of
    paired: latencies request by request, where the runs sent the same prompts
    """

    matrix: differences.Matrix
    scores: tuple[ScoreRow, ...]
    paired: tuple[PairedLatency, ...]
    forbidding: tuple[Difference, ...]
    explaining: tuple[Difference, ...]
    verdicts: tuple[gates.GateVerdict, ...]
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
    gated = (limit.name for limit in limits if limit.unit != "pts")
    names = (*metric_names.choose_metrics(metrics), *gated)
    runs = load_runs(arguments)
    forbidding, explaining = find_differences(runs)
    if not anyway:
        refuse_differences(forbidding, runs)
        if limits:
            refuse_inexact(runs)
    if any(each.field.startswith("slo") for each in explaining):
        names = tuple(name for name in names if name not in metric_names.GOODPUT)
    matrix = differences.build_matrix(runs, tuple(dict.fromkeys(names)))
    scores = compare_scores([run.by_task for run in runs])
    if not matrix.names and not scores:
        raise errors.BadInput(
            f"none of these runs has {' or '.join(names)}; choose others with --metrics"
        )
    load = (each.field for each in forbidding if each.field not in JUDGED)
    paired, unpaired = pair_requests(runs, [field for field in load if ": " not in field])
    return Comparison(
        matrix,
        scores,
        paired,
        tuple(forbidding),
        tuple(explaining),
        tuple(gates.judge_gates(limits, runs)),
        (*_notes(runs, forbidding, explaining), *unpaired),
    )


def methods(comparison: Comparison) -> Iterator[str]:
    """How differences were judged, a text for each of its tables."""
    if comparison.matrix.names:
        yield METHOD
    if comparison.paired:
        yield PAIR_METHOD
    if comparison.scores:
        yield SCORE_METHOD


def gate_error(verdicts: Sequence[gates.GateVerdict]) -> errors.BenchError | None:
    """The command's error: GateFailed if a gate failed, GateUnjudged if one could not be judged."""
    failed = [verdict_line(each) for each in verdicts if each.outcome == "failed"]
    unjudged = [
        verdict_line(each)
        for each in verdicts
        if each.outcome == "unjudged" and gates.decides(each, verdicts)
    ]
    if failed:
        return gates.GateFailed("; ".join(failed))
    return gates.GateUnjudged("; ".join(unjudged)) if unjudged else None


def verdict_line(verdict: gates.GateVerdict) -> str:
    """A gate's outcome as a sentence, with the figure's own change and its interval."""
    gate = verdict.gate
    outcome = {"unjudged": "can't be judged"}.get(verdict.outcome, verdict.outcome)
    head = f"gate {gate.text} {outcome} for {verdict.run}"
    if verdict.regression is None:
        return f"{head}: {verdict.why}"
    # Of a figure where higher is better, a regression is negative.
    sign = -1 if gate.higher else 1
    low, high = sorted(sign * (end or 0.0) for end in (verdict.low, verdict.high))
    change = formats.with_sign(sign * verdict.regression)
    power = (
        f"95% of comparisons like this find a regression of {verdict.detectable:.2g} {gate.unit} "
        "or more"
    )
    return (
        f"{head}: {change} {gate.unit} (99%: {formats.with_sign(low)} to "
        f"{formats.with_sign(high)} {gate.unit}); {verdict.why or power}"
    )


def _notes(
    runs: Sequence[ComparedRun],
    forbidding: Sequence[Difference],
    explaining: Sequence[Difference],
) -> Iterator[str]:
    """What a reader should know besides the figures."""
    for each in forbidding:
        yield f"compared anyway although {each.field} differs: {values(each, runs)}"
    if any(each.field.startswith("slo") for each in explaining):
        yield "the objectives (--slo) differ: goodput is left out"
    for run in runs:
        yield from _run_notes(run)
    if single := [run.letter for run in runs if run.repeats == 1]:
        yield (
            f"{', '.join(single)}: 1 repeat has no spread, so nothing can be called better or "
            "worse; measure with --repeat 5"
        )
    if inexact := [run.letter for run in runs if not exact(run)]:
        yield f"figures are approximate in {', '.join(inexact)}; see audit.reasons in the results"
    letters: dict[str, str] = {}
    for run in runs:
        for part in run.files:
            if part.id in letters:
                yield f"{run.letter} and {letters[part.id]} both contain {part.path.name}"
            letters.setdefault(part.id, run.letter)


def _run_notes(run: ComparedRun) -> Iterator[str]:
    failed = sum(part.failed for part in run.parts)
    completed = sum(part.completed for part in run.parts)
    early = sum(part.early for part in run.parts)
    if len(run.parts) > 1:
        yield f"{run.letter}: {len(run.parts)} results, pooled as {run.repeats} repeats of one run"
    if run.left_out:
        yield f"{run.name}: left out {run.left_out} files that are not results"
    if failed:
        total = failed + completed
        yield f"{run.letter}: {failed} of {total} requests failed and count in no figure"
    for task, parts in run.by_task.items():
        if len(parts) > 1:
            yield f"{run.letter}: {len(parts)} results of {task}, whose answers count as one's mean"
    for part in run.parts:
        yield from (f"{run.letter}, as published: {sentence}" for sentence in part.published)
    if early:
        yield f"{run.letter}: {early} of {completed} responses were shorter than requested"


# Fields of the config that decide neither what is sent nor when. A field not named here must be
# the same.
FREE = ("command", "overrides", "repeat", "published")
# Which server, how tokens are counted, what ran before, and limits that are applied afterwards: may
# differ, and are shown.
SHOWN = ("model", "url", "slo", "count_tokens", "warmup")
# For these, only whether there were any matters, not how many requests the warm-up took.
EITHER = ("warmup",)
ABSENT = None
# Whether figures can be judged: they are exact, or their bounds say how far they are off.
CLIENTS = {True: "exact", False: "approximate"}
# What rules out a comparison without being a part of the load.
JUDGED = ("status", "client")
# Values of a field that a refusal names.
NAMED = 3
# Provenance that differs between any two runs and explains nothing: an engine draws a seed at each
# start, and the load average covers the minutes before.
CHANCE = ("random_seed", "load_average")


class CantCompare(errors.BenchError):
    """The runs can't be compared: their difference would mean nothing."""

    exit_code = 2


class Difference(Struct, frozen=True):
    """A field that differs between runs.

    values: of each run, in order; several where its files differ
    """

    field: str
    values: tuple[tuple[Any, ...], ...]


def find_differences(runs: Sequence[ComparedRun]) -> tuple[list[Difference], list[Difference]]:
    """Return (what rules out the comparison, what may explain its outcome)."""
    parts = [run.parts for run in runs]
    forbidding = [
        *_differing(
            parts,
            lambda part: {"status": part.status, "client": CLIENTS[part.exact]},
        ),
        *_differing(parts, lambda part: _config(part, shown=False)),
    ]
    # Partial runs can't be compared, not even with each other.
    status = Difference("status", tuple(_distinct(p.status for p in own) for own in parts))
    if any("partial" in values for values in status.values):
        forbidding = [status, *(each for each in forbidding if each.field != "status")]
    scores = [run.scores for run in runs]
    for task in dict.fromkeys(part.task for own in scores for part in own):
        of_task = [tuple(part for part in own if part.task == task) for own in scores]
        for each in _differing(of_task, lambda part: part.config):
            forbidding.append(Difference(f"{task}: {each.field}", each.values))
        status = Difference(
            f"{task}: status", tuple(_distinct(p.status for p in own) for own in of_task)
        )
        if any("partial" in values for values in status.values):
            forbidding.append(status)
    provenance = [
        *_differing(parts, lambda part: part.provenance),
        *_differing(scores, lambda part: flatten(part.provenance)),
    ]
    explaining = [
        *_differing(parts, lambda part: _config(part, shown=True)),
        *_differing(scores, lambda part: part.shown),
        *(p for p in provenance if p.field.rpartition(".")[2].partition("[")[0] not in CHANCE),
    ]
    # Scores and figures of a run name the same server.
    return forbidding, list({each.field: each for each in reversed(explaining)}.values())[::-1]


def refuse_differences(forbidding: Sequence[Difference], runs: Sequence[ComparedRun]) -> None:
    """Raise CantCompare, naming every difference and the cure, if there are any."""
    if not forbidding:
        return
    fields = []
    for each in forbidding:
        count = len(list(by_value(each, runs)))
        text = values(each, runs) if count <= NAMED else f"{count} different values"
        fields.append(f"{each.field}: {text}")
    raise CantCompare(
        f"these runs can't be compared: they differ in {'; '.join(fields)}. "
        "Measure again with the same settings, or pass --anyway."
    )


def refuse_inexact(runs: Sequence[ComparedRun]) -> None:
    """Raise CantCompare for gates on approximate figures: their spread may be the client's own, or
    tokens that arrived together could not be counted apart."""
    if inexact := [f"{run.letter} ({run.name})" for run in runs if not exact(run)]:
        raise CantCompare(
            f"can't judge gates: figures are approximate in {', '.join(inexact)} (see "
            "audit.reasons in the result). Fix the cause and measure again, most often on an "
            "otherwise idle client, or pass --anyway"
        )


def exact(run: ComparedRun) -> bool:
    """Whether the figures of every file can be judged."""
    return all(part.exact for part in run.parts)


def values(difference: Difference, runs: Sequence[ComparedRun], most: int = 3) -> str:
    """Each value with its runs: "7 (A), 8 (B, C)"."""
    return ", ".join(f"{value} ({who})" for who, value in by_value(difference, runs, most))


def by_value(
    difference: Difference, runs: Sequence[ComparedRun], most: int = 3
) -> Iterator[tuple[str, str]]:
    """Yield (the runs that have it, the value) in the order of runs; at most `most` are named."""
    words = {None: "none", True: "yes", False: "no"}
    letters: dict[str, list[str]] = {}
    for run, own in zip(runs, difference.values, strict=True):
        if not own:  # it has no file that could have the field
            continue
        texts = (
            words[value] if value is None or isinstance(value, bool) else printable(str(value))
            for value in own
        )
        letters.setdefault(" and ".join(texts), []).append(run.letter)
    for value, who in letters.items():
        more = f" and {len(who) - most} more" if len(who) > most else ""
        yield ", ".join(who[:most]) + more, value


def _config(part: ResultPart, shown: bool) -> dict[str, Any]:
    """The fields that are just shown, or those that must be the same."""
    return {
        name: bool(value) if name in EITHER else value
        for name, value in part.config.items()
        if (top := name.split(".")[0].split("[")[0]) not in FREE and (top in SHOWN) == shown
    }


def _differing(
    runs: Sequence[Sequence[Part]], fields: Callable[[Part], dict[str, Any]]
) -> Iterator[Difference]:
    """The fields with more than one value over all files of those runs that have any."""
    rows = [[fields(part) for part in own] for own in runs]
    everything = [row for run in rows for row in run]
    # Most fields are the same everywhere: only the others are looked at closely.
    suspects = [
        name
        for name in dict.fromkeys(name for row in everything for name in row)
        if any(row.get(name, ABSENT) != everything[0].get(name, ABSENT) for row in everything)
    ]
    for name in suspects:
        yield Difference(
            name, tuple(_distinct(row.get(name, ABSENT) for row in run) for run in rows)
        )


def _distinct(items: Iterator[Any]) -> tuple[Any, ...]:
    """The distinct items in their order; they need not be hashable."""
    return tuple({repr(each): each for each in items}.values())

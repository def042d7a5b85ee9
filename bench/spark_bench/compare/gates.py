"""Limits for CI: `output_throughput=-3%` finds a regression of 3 %, whatever the spread.

A gate's limit is the regression that must not pass. With L the limit and R the regression that the
repeats show (stats.py: trimmed, on logarithms for per cent, as it is for milliseconds):

  holds    a regression of L or more is excluded: R's one-sided 99 % bound is below L.
           So a regression of L passes once in a hundred times.
  failed   it is not excluded, and there is one: R's one-sided bound on the other side is above 0,
           at 1 % divided by the number of gates and runs judged by them.
           So all gates together fail for identical runs once in a hundred times.
  unjudged neither: the spread is too wide for so few repeats. An error, not a pass.

Both rates hold by construction if the repeats show the whole spread. The spread only decides
whether there is a verdict, and `GateVerdict.detectable` says which regressions would be found.
`tests/support/paired_trials.py` simulates both, for spreads that were measured. Runs whose figures
are approximate are not judged: their spread may be the client's.

A limit alone, such as `3%`, is one of the steadiest figures each (`metric_names.STEADIEST`), as a
group: it fails if one of them does, and is unjudged if all of them are. So a server that is slower
in everything is found by whichever figure shows it.

A score's limit is in points: `arith=-2pts`. The same holds of it, with the items instead of repeats
(paired.py): one file on each side is enough, and both must have been asked the same items.
"""

import math
import re
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct, field

from spark_bench.compare import metric_names, paired, stats
from spark_bench.compare.runs import ComparedRun
from spark_bench.compare.scores import outcomes
from spark_bench.errors import BadInput, BenchError

FALSE_ALARMS = 0.01  # of all gates together
MISSES = 0.01  # of a regression as large as the limit, by each gate
POWER = 0.95

_ALONE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_LIMIT = re.compile(r"([+-])(\d+(?:\.\d+)?)\s*(%|ms|pts|)")
_FORM = (
    "give 3% for the steadiest figures, or NAME=LIMIT, such as output_throughput=-3%, "
    "ttft_p99=+5%, ttft_p99=+20ms or, for a task's score, arith=-2pts"
)
# Numbers of items that a message proposes.
_ROUND = [n * 10**power for power in range(1, 5) for n in (1, 2, 3, 4, 5, 6, 8)]


Outcome = Literal["holds", "failed", "unjudged"]


class GateFailed(BenchError):
    """A figure got worse than its gate allows."""


class GateUnjudged(BenchError):
    """A gate that can't be judged with these results."""

    exit_code = 2


class Gate(Struct, frozen=True):
    """The largest regression of a figure, or of a task's score, that is allowed.

    text: as typed; limit: its size in its unit, which is points for scores
    higher: a higher figure is better
    group: the limit without a name that it is a part of; "": it was given by its own name
    """

    text: str
    name: str
    limit: float
    unit: Literal["%", "ms", "pts"]
    higher: bool
    group: str = ""


class GateVerdict(Struct, frozen=True):
    """A gate judged for one run.

    regression, low, high: measured, with its 99% bounds, in the gate's unit; higher is worse
    detectable: the smallest regression that this gate would find in 95% of such comparisons
        (`found` in JSON)
    why: why it is unjudged
    """

    gate: Gate
    run: str
    outcome: Outcome
    regression: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = field(default=None, name="found")
    why: str = ""


def parse_gates(text: str) -> tuple[Gate, ...]:
    """Parse the value of --gate. BadInput for an invalid gate, or two for one figure."""
    gates = list[Gate]()
    for each in map(str.strip, text.split(",")):
        if alone := _ALONE.fullmatch(each):
            ways = {"higher": "-", "lower": "+"}
            for name in metric_names.STEADIEST:
                gate = _gate(f"{name}={ways[metric_names.better(name)]}{alone[1]}%")
                gates.append(msgspec.structs.replace(gate, group=each))
        else:
            gates.append(_gate(each))
    for index, gate in enumerate(gates):
        if any(gate.name == before.name for before in gates[:index]):
            raise BadInput(f"--gate has two limits for {gate.name}; give one")
    return tuple(gates)


def _gate(text: str) -> Gate:
    name, equals, limit = text.partition("=")
    if not equals or not name.strip():
        raise BadInput(f"--gate {text!r} is not a gate: {_FORM}")
    match = _LIMIT.fullmatch(limit.strip())
    if match and match[3] == "pts" and not metric_names.is_figure(name):
        if match[1] != "-" or not 0 < float(match[2]) < 100:
            raise BadInput(
                f"--gate {text}: give how far the score may fall, such as -2pts: above 0 and below "
                "100, since no two runs are equal"
            )
        return Gate(text, name.strip().lower(), float(match[2]), "pts", True)
    try:
        key = metric_names.find_metric(name, "--gate")
    except BadInput as error:
        raise BadInput(f"{error.message}, or for a task's score, arith=-2pts") from None
    if not match:
        raise BadInput(f"--gate {text}: {limit.strip()!r} is not a limit: {_FORM}")
    sign, size, unit = match[1], float(match[2]), match[3]
    good = metric_names.better(key)
    if not good:
        raise BadInput(f"--gate {text}: {key} has no better direction; gate another figure")
    if (sign == "-") != (good == "higher"):
        way = "fall, such as -3%" if good == "higher" else "rise, such as +5%"
        raise BadInput(
            f"--gate {text}: {'higher' if good == 'higher' else 'lower'} {key} is better; "
            f"give how far it may {way}"
        )
    if unit in ("", "pts") or (unit == "ms" and not key.endswith("_ms")):
        allowed = "% or ms" if key.endswith("_ms") else "%"
        raise BadInput(f"--gate {text}: its unit is {unit or 'missing'}; give {allowed}")
    if not size or (unit == "%" and sign == "-" and size >= 100):
        bounds = "above 0" + (" and below 100%" if unit == "%" and sign == "-" else "")
        raise BadInput(f"--gate {text}: the limit must be {bounds}: no two runs are equal")
    return Gate(text, key, size, "ms" if unit == "ms" else "%", good == "higher")


def judge_gates(gates: Sequence[Gate], runs: Sequence[ComparedRun]) -> list[GateVerdict]:
    """Judge each gate for each run but the first, which is the baseline."""
    alpha = FALSE_ALARMS / max(1, len(gates) * (len(runs) - 1))
    return [
        (_judge_score if gate.unit == "pts" else _judge)(gate, runs[0], run, alpha)
        for gate in gates
        for run in runs[1:]
    ]


def decides(verdict: GateVerdict, verdicts: Sequence[GateVerdict]) -> bool:
    """Whether a verdict counts: it is judged, or nothing of its group is."""
    if verdict.outcome != "unjudged" or not verdict.gate.group:
        return True
    group = (v for v in verdicts if (v.gate.group, v.run) == (verdict.gate.group, verdict.run))
    return all(each.outcome == "unjudged" for each in group)


def _judge(gate: Gate, base: ComparedRun, run: ComparedRun, alpha: float) -> GateVerdict:
    if why := _hindrance(gate, base, run):
        return GateVerdict(gate, run.letter, "unjudged", why=why)
    first, second = base.values(gate.name), run.values(gate.name)
    relative = gate.unit == "%"
    if relative:
        first, second = [math.log(value) for value in first], [math.log(value) for value in second]
    finest = stats.FINEST if relative else stats.FINEST * abs(float(np.mean(first)))
    located = stats.locations([first], finest), stats.locations([second], finest)
    apart = stats.contrast(*located)
    regression = float(apart.difference[0]) * (-1 if gate.higher else 1)
    error, freedom = float(apart.error[0]), apart.freedom
    # How far the true difference may be below and above the measured one.
    (down, up), (less, more) = (
        stats.slack(each, [measured.ends(gate.name)], logarithms=relative)
        for each, measured in zip(located, (base, run), strict=True)
    )
    below, above = float((less + up)[0]), float((more + down)[0])
    if gate.higher:
        below, above = above, below
    low = regression - float(stats.quantile(1 - alpha, freedom)[0]) * error - below
    high = regression + float(stats.quantile(1 - MISSES, freedom)[0]) * error + above
    # The limit's size on the test's scale, always positive.
    limit = gate.limit
    if relative:
        limit = -math.log1p(-limit / 100) if gate.higher else math.log1p(limit / 100)
    outcome: Outcome = "holds" if high < limit else "failed" if low > 0 else "unjudged"
    slack = apart.certain(POWER, stats.quantile(1 - MISSES, freedom))
    detectable = max(float(apart.detectable(alpha, POWER)[0]) + below, limit - float(slack[0]))
    if outcome == "unjudged":
        fewer = min(len(first), len(second))
        needed = stats.enough(apart, fewer, limit, alpha, MISSES)
        cure = f"use about --repeat {needed}" if needed else "use a wider limit"
        why = f"the spread is too wide for {fewer} repeats: {cure}"
        if above + below > limit / 2:
            off = _unscaled(gate, above + below)
            why = (
                f"the figures are known to {off:.2g} {gate.unit} only (see bounds and "
                "audit.reasons): measure on an otherwise idle client"
            )
    return GateVerdict(
        gate,
        run.letter,
        outcome,
        regression=_unscaled(gate, regression),
        low=_unscaled(gate, low),
        high=_unscaled(gate, high),
        detectable=_unscaled(gate, detectable),
        why=why,
    )


def _judge_score(gate: Gate, base: ComparedRun, run: ComparedRun, alpha: float) -> GateVerdict:
    first, second = base.by_task.get(gate.name, []), run.by_task.get(gate.name, [])
    for each, own in ((base, first), (run, second)):
        if not own:
            there = ", ".join(each.by_task)
            why = f"{each.letter} has no score of {gate.name}" + (
                f", only of {there}" * bool(there)
            )
            return GateVerdict(gate, run.letter, "unjudged", why=why)
    pair = paired.pair_scores(outcomes(first), outcomes(second))
    if pair is None:
        why = f"{base.letter} and {run.letter} have no answered item in common"
        return GateVerdict(gate, run.letter, "unjudged", why=why)
    limit = gate.limit / 100
    outcome = _score_outcome(pair, limit, alpha)
    why = ""
    if outcome == "unjudged":
        more = (n for n in _ROUND if n > pair.items)
        needed = (n for n in more if _score_outcome(pair.over(n), limit, alpha) != "unjudged")
        enough = next(needed, None)
        cure = f"use about {enough} items" if enough else "use a wider limit"
        why = f"{pair.items} items are too few: {cure}"
    # A regression that is found is one that neither passes nor may be chance.
    detectable = max(pair.detectable(alpha, 1 - POWER), limit)
    return GateVerdict(
        gate,
        run.letter,
        outcome,
        regression=-100 * pair.difference,
        low=-100 * pair.most(1 - alpha),
        high=-100 * pair.least(1 - MISSES),
        detectable=100 * detectable,
        why=why,
    )


def _score_outcome(pair: paired.PairedScores, limit: float, alpha: float) -> Outcome:
    if pair.least(1 - MISSES) > -limit:
        return "holds"
    return "failed" if pair.most(1 - alpha) < 0 else "unjudged"


def _hindrance(gate: Gate, base: ComparedRun, run: ComparedRun) -> str:
    """Why a gate can't be judged, with the cure; "" if it can."""
    for each in (base, run):
        values = each.values(gate.name)
        if not values:
            return f"{each.letter} has no {gate.name}"
        if len(values) < 2:
            return f"{each.letter} has 1 repeat and so no known spread: measure with --repeat 5"
        if gate.unit == "%" and min(values) <= 0:
            return f"{each.letter} has a {gate.name} of {min(values):g}, which has no percentage"
    return ""


def _unscaled(gate: Gate, size: float) -> float:
    """A regression on the test's scale in the gate's unit: the logarithm of a ratio as percent."""
    if gate.unit == "ms":
        return size
    if gate.higher:
        return -100 * math.expm1(-min(size, 700.0) if size > 0 else min(-size, 700.0))
    return 100 * math.expm1(min(size, 700.0))

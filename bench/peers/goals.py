"""What our client must reach, and whether a comparison shows that it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from peers.scoring import KEYS
from peers.turns import ClientTurn

OURS, PYTHON, RUST = "spark-bench", "sglang Python", "sglang Rust"

# The least multiple of the Rust client's tokens per CPU-second, by load.
RUST_GOALS = {"1 streams": 1.0, "16 streams": 1.0, "64 streams": 1.0, "256 streams": 1.5}


@dataclass(frozen=True)
class Middle:
    """The median of several measurements, and their lowest, highest and number."""

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Middle | None:
        """The median of these values; None if there are none."""
        return cls(median(values), min(values), max(values), len(values)) if values else None

    def text(self, form: str = "{:.1f}") -> str:
        low, high = form.format(self.low), form.format(self.high)
        return form.format(self.value) + ("" if low == high else f" ({low}..{high})")


@dataclass(frozen=True)
class Goal:
    """One line of the verdict; measured is None if that was not possible."""

    name: str
    wanted: str
    measured: str | None
    reached: bool

    @property
    def verdict(self) -> str:
        return "reached" if self.reached else "MISSED"


@dataclass(frozen=True)
class PeerComparison:
    """All that was measured.

    turns: every client's turns; faults: those at the loads with faults
    stamps, ladder: of our client in-process, see stamps.py
    help_seconds: wall time of --help, by client
    """

    turns: Sequence[ClientTurn]
    stamps: Sequence[Mapping[str, Any]]
    ladder: Sequence[Mapping[str, Any]]
    faults: Sequence[ClientTurn]
    help_seconds: Mapping[str, Sequence[float]]

    def middle(self, client: str, case: str, of: Callable[[ClientTurn], float]) -> Middle | None:
        """The median of one figure over a client's turns at a load."""
        return Middle.of([of(t) for t in self.turns if t.client == client and t.case == case])

    def error(self, client: str, case: str, key: str) -> Middle | None:
        """The median of reported minus true, in ms, over a client's turns at a load; None if the
        client doesn't report the figure."""
        mine = [t for t in self.turns if t.client == client and t.case == case]
        return Middle.of([t.errors[key] for t in mine if key in t.errors])

    def stamp(self, case: str, *path: str) -> Middle | None:
        """The median of one figure of our client in-process; `path`: its keys in `stamps`."""
        return Middle.of([_at(s, path) for s in self.stamps if s["case"] == case])


def _at(stamps: Mapping[str, Any], path: Sequence[str]) -> float:
    value: Any = stamps
    for key in path:
        value = value[key]
    return float(value)


def at_most(name: str, middle: Middle | None, limit: float, unit: str, form: str) -> Goal:
    """The goal of at most `limit`, judged by the median."""
    wanted = f"<= {limit:g} {unit}".strip()
    reached = middle is not None and middle.value <= limit
    return Goal(name, wanted, middle.text(form) if middle else None, reached)


def at_least(name: str, middle: Middle | None, limit: float, unit: str, form: str) -> Goal:
    """The goal of at least `limit`, judged by the median."""
    wanted = f">= {limit:g} {unit}".strip()
    reached = middle is not None and middle.value >= limit
    return Goal(name, wanted, middle.text(form) if middle else None, reached)


def ratio(
    comparison: PeerComparison,
    case: str,
    peer: str,
    mine: Callable[[ClientTurn], float],
    its: Callable[[ClientTurn], float],
) -> Middle | None:
    """Our figure divided by a peer's, round by round, since what disturbs a round disturbs both."""
    ours = [mine(t) for t in comparison.turns if t.client == OURS and t.case == case]
    theirs = [its(t) for t in comparison.turns if t.client == peer and t.case == case]
    return Middle.of([a / b for a, b in zip(ours, theirs, strict=False) if b])


def within(comparison: PeerComparison, case: str) -> Goal:
    """The goal that every reported figure is within 0.5 % or 100 us of the truth; the worst is
    shown."""
    worst, worst_key, misses = 0.0, "", []
    for key in KEYS:
        error = comparison.stamp(case, "errors", key)
        true = comparison.stamp(case, "truths", key)
        if error is None or true is None:
            continue
        allowed = max(0.005 * true.value, 0.1)
        if abs(error.value) / allowed >= worst:
            worst, worst_key = abs(error.value) / allowed, f"{key} {error.text('{:+.3f}')} ms"
        if abs(error.value) > allowed:
            misses.append(key)
    shown = f"worst: {worst_key}" if worst_key else None
    name = f"TTFT and ITL, mean p50 p99, {case}"
    return Goal(name, "within 0.5 % or 100 us", shown, bool(worst_key) and not misses)


def keeps_up(step: Mapping[str, Any]) -> bool:
    """Whether neither side fell behind in a paced run.

    By the reference server's log, its gaps were the 10 ms that it was set to; by ours, at most 1 %
    of the tokens were read together with another one (and so have no time of their own), and the
    median ITL was not too high by 0.2 ms.
    """
    on_pace = abs(step["true_itl_p50"] - 10.0) < 0.2
    return bool(on_pace and step["shared"] <= 0.01 and step["errors"]["itl_p50"] < 0.2)


def paced_rate(ladder: Sequence[Mapping[str, Any]]) -> Middle | None:
    """The highest rate of each climb at which the client still keeps pace."""
    rounds: dict[int, list[Mapping[str, Any]]] = {}
    for step in ladder:
        rounds.setdefault(step["round"], []).append(step)
    tops = []
    for steps in rounds.values():
        top = 0.0
        for step in sorted(steps, key=lambda s: float(s["offered"])):
            if not keeps_up(step):
                break
            top = float(step["offered"])
        tops.append(top)
    return Middle.of(tops)


def goals(comparison: PeerComparison, accuracy: Sequence[str], cost: str) -> list[Goal]:
    """All goals, in the order in which they were set.

    accuracy: the names of the loads for accuracy
    cost: the name of the load for CPU use and time stamps
    """
    stamps_p50 = comparison.stamp(cost, "stamp_us", "p50")
    stamps_p99 = comparison.stamp(cost, "stamp_us", "p99")
    python = ratio(comparison, cost, PYTHON, _lasting, _lasting)
    requests = ratio(comparison, "one-token answers", RUST, _requests, _requests)
    paced = paced_rate(comparison.ladder)
    firehose = comparison.middle(OURS, "zero delay", lambda t: t.rate)
    memory = Middle.of([t.peak_rss / 1e6 for t in comparison.turns if t.client == OURS])
    peak = Middle(memory.high, memory.low, memory.high, memory.count) if memory else None
    seconds = Middle.of(comparison.help_seconds.get(OURS, []))
    faults = [len(t.wrong) for t in comparison.faults if t.client == OURS]
    wrong = str(sum(faults)) if faults else None
    return [
        at_most("time stamps' error p50, 256 streams", stamps_p50, 15, "us", "{:.1f}"),
        at_most("time stamps' error p99, 256 streams", stamps_p99, 50, "us", "{:.1f}"),
        *(within(comparison, case) for case in accuracy),
        at_least(f"tokens per CPU-second / {PYTHON}'s", python, 3.0, "x", "{:.2f}"),
        *cpu_goals(comparison),
        at_least("one-token answers a second / sglang Rust's", requests, 1.0, "x", "{:.2f}"),
        at_least("paced one-token chunks a second", paced, 40_000, "", "{:.0f}"),
        at_least("tokens a second without delay", firehose, 70_000, "", "{:.0f}"),
        at_most("peak memory, all loads", peak, 150, "MB", "{:.0f}"),
        at_most("--help", seconds, 0.3, "s", "{:.2f}"),
        Goal("wrong figures in the fault table", "0", wrong, wrong == "0"),
    ]


def cpu_goals(comparison: PeerComparison) -> Iterator[Goal]:
    """Tokens per CPU-second as a multiple of the Rust client's."""
    for case, least in RUST_GOALS.items():
        running = ratio(comparison, case, RUST, _lasting, _lasting)
        reading = ratio(comparison, case, RUST, lambda t: t.with_parsing, _lasting)
        yield at_least(f"tokens per CPU-second / {RUST}'s, {case}", running, least, "x", "{:.2f}")
        yield at_least(f"the same, with reading, {case}", reading, 1.0, "x", "{:.2f}")


def _lasting(turn: ClientTurn) -> float:
    return turn.tokens_per_cpu


def _requests(turn: ClientTurn) -> float:
    return turn.requests_rate

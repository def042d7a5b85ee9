"""What a node's watchdog does next: the head's, a worker's, the memory floor's. No I/O, no clock.

A rank is ended (its first process is killed), and Docker's restart policy starts it again; it is
started only where dockerd was killed, after which Docker starts none. The policy is set once a
group serves, and turned off before an intended stop: a rank without one is a deploy's, or stopped
on purpose, and is left alone. So nothing that a watchdog does looks like an intended stop after a
reboot.

Times are seconds of the node's own monotonic clock. Between nodes only durations are exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

HOUR = 3600.0
Wish = Literal["hold", "restart", "serve"]
HeadDuty = Literal["held", "off", "no address", "loading", "serving", "failing", "waiting", "limit"]
ActionKey = Literal["group-restart", "silent-head", "memory-floor", "docker-killed"]
WorkerDuty = Literal["held", "off", "alone", "following", "limit"]


@dataclass(frozen=True)
class WatchLimits:
    """All that is bounded; seconds where nothing else is said.

    + fail: that proofs fail in a row until a group that has served restarts
    + load: that a started group may take until it serves
    + confirm: that workers have to end their ranks before rank 0 is; a shorter life of
      rank 0 than that begins no generation
    + silent: without an answer of the head until a worker ends its rank, after `misses` queries
    + restarts: of the group by the head in an hour
    + ends: ranks that a worker may end in an hour, floor apart
    + back_off: from one restart to the next, doubled with each until the group has served `steady`
    + floor: below the memory floor until the rank is ended; after `floor_ends` ends in an hour, at
      the next, it is stopped
    + fallen: that a rank has lain since dockerd was killed until it is started; starts: in an hour
    + address: that the fabric address may be missing until that is reported as a fault
    """

    fail: float = 90
    load: float = 600
    confirm: float = 30
    silent: float = 90
    misses: int = 5
    restarts: int = 4
    ends: int = 8
    back_off: float = 60
    steady: float = 600
    floor: float = 5
    floor_ends: int = 2
    fallen: float = 5
    starts: int = 4
    address: float = 300


@dataclass(frozen=True)
class OwnRank:
    """The node's own rank, as Docker has it.

    + life: its container and its last start; "" while Docker waits before it starts it again
    + age: since that start
    + armed: its restart policy is set
    + running: or about to be started again by Docker; False: it was stopped, paused, never started
    + fallen: it went down with a dockerd that was killed; nobody has stopped it
    """

    life: str
    age: float
    armed: bool = True
    running: bool = True
    fallen: bool = False

    @property
    def on_duty(self) -> bool:
        return self.armed and (self.running or self.fallen)


@dataclass(frozen=True)
class Proof:
    """Whether the group serves, as it was proved once.

    + life: of rank 0 when the proof began
    + why: what failed; "" where the group serves
    """

    life: str
    why: str = ""


@dataclass(frozen=True)
class RankReport:
    """What a worker last reported.

    + generation: the one that its rank belongs to; 0: it knows of none
    + life, on_duty: its rank's, as in `OwnRank`
    """

    generation: int
    life: str
    on_duty: bool


@dataclass(frozen=True)
class HeadAnswer:
    """What the head publishes.

    + generation: a number that changes with each start of the group
    + wish: "hold": do nothing; "restart": ranks that are older than the generation end; "serve":
      the group has served in this generation, whatever its ranks' ages
    + age: of the generation, by the head's clock: a rank that is older belongs to an earlier one
    """

    generation: int
    wish: Wish
    age: float


@dataclass(frozen=True)
class RankAction:
    """What is done to the node's own rank, or by the head's to the group.

    + kind: "restart": the group, which its ranks' watchdogs do from now on; "end": the rank's first
      process is killed, and Docker starts it again; "stop": it stays down; "start": it has fallen
    + why: for the journal and status
    + key: what for, by a name that stays; "": part of a restart
    """

    kind: Literal["none", "restart", "end", "stop", "start"] = "none"
    why: str = ""
    key: ActionKey | Literal[""] = ""


NOTHING = RankAction()
# Instead of the life of a rank 0 that has fallen: its start begins a generation, however soon.
_FELL = "fell"
_RESTS = ("held", "off", "no address")


# ---- the head


@dataclass(frozen=True)
class HeadView:
    """What the head's watchdog sees at one time.

    + rank: None where there is none, or Docker does not answer
    + trouble: why Docker does not; "" where it does
    + held: a lease on the group is live
    + address: the fabric address is on this node
    + proof: one that has ended since the last decision
    + workers: rank → its last report, none older than `WatchLimits.silent`
    """

    rank: OwnRank | None
    held: bool = False
    address: bool = True
    proof: Proof | None = None
    workers: Mapping[int, RankReport] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class HeadState:
    """What the head's watchdog remembers; in /run, so a reboot forgets it.

    + generation, begun: the current one's number and its begin
    + own: life of rank 0; ended: the life that was ended last, until another one is there
    + ending: since when workers have been ending their ranks, before rank 0 is ended
    + lives: rank → life, as they served together; empty where they have not yet
    + served: the life of rank 0 that served last: it loads no more, whatever was not seen since
    + blind: it can't say yet whether the group serves: no proof since it began to look
    + looked: when it looked last
    + since: when loading began, or serving
    + failing: when the first of the failed proofs in a row came
    + restarts: when it restarted the group, within the last hour; tries: since it was steady
    """

    generation: int
    begun: float
    duty: HeadDuty = "off"
    why: str = ""
    own: str = ""
    ended: str = ""
    ending: float | None = None
    lives: Mapping[int, str] = field(default_factory=dict)
    served: str = ""
    blind: bool = True
    looked: float | None = None
    since: float = 0.0
    failing: float | None = None
    restarts: tuple[float, ...] = ()
    tries: int = 0

    def answer(self, now: float, limits: WatchLimits, *, held: bool) -> HeadAnswer:
        """What a worker is answered; held: a lease on the group is live now."""
        wish: Wish = "serve" if self.lives else "restart"
        if held or self.blind or self.duty in _RESTS or _gap(self.looked, now, limits):
            wish = "hold"
        return HeadAnswer(self.generation, wish, max(0.0, now - self.begun))


def decide_head(
    state: HeadState, view: HeadView, now: float, limits: WatchLimits
) -> tuple[HeadState, RankAction]:
    """The next state of the head's watchdog, and what it does to rank 0."""
    gap = _gap(state.looked, now, limits)
    if view.trouble and not (gap or view.held):
        # No look: what was seen last holds until it is too old.
        return state, NOTHING
    state = replace(state, restarts=_within_hour(state.restarts, now), looked=now)
    if view.held:
        return _rest(state, "held", "a deploy holds the lease"), NOTHING
    if view.rank is None or not view.rank.on_duty:
        why = view.trouble or "rank 0 is not running, or has no restart policy"
        return _rest(state, "off", why), NOTHING
    if stopped := [rank for rank, report in view.workers.items() if not report.on_duty]:
        why = f"rank {stopped[0]} is not running, or has no restart policy"
        return _rest(state, "off", why), NOTHING
    if not view.address:
        return _wait_for_address(state, now, limits), NOTHING
    if gap or state.duty in _RESTS:
        # Whatever was started meanwhile is the group: its generation stays, so no worker acts.
        state = _rest(replace(state, own=view.rank.life, ended="", since=now), "loading", "")
    if view.rank.fallen:
        return replace(state, own=_FELL), NOTHING
    state = _note_life(state, view.rank, now, limits)
    if state.ending is not None:
        return _end_own(state, view.rank, view.workers, now, limits)
    if anew := [n for n, r in view.workers.items() if _differs(state.lives.get(n), r.life)]:
        return _restart(state, f"rank {anew[0]} was started without the others", now, limits)
    if state.ended and state.own == state.ended:
        # A process that hangs in the kernel outlives SIGKILL.
        late = now - state.begun >= limits.fail
        return _restart(state, "rank 0 did not end", now, limits) if late else (state, NOTHING)
    if view.proof is None or view.proof.life != state.own:
        return state, NOTHING
    if not view.proof.why:
        return _note_serving(state, view.workers, now, limits), NOTHING
    state = replace(state, why=view.proof.why, blind=False)
    if state.served != state.own:
        state = replace(state, duty="loading")
        late = now - state.since >= limits.load
        why = f"not serving {now - state.since:.0f} s after its start: {view.proof.why}"
        return _restart(state, why, now, limits) if late else (state, NOTHING)
    failing = now if state.failing is None else state.failing
    state = replace(state, duty="failing", failing=failing)
    if now - failing < limits.fail:
        return state, NOTHING
    return _restart(state, f"failing for {now - failing:.0f} s: {view.proof.why}", now, limits)


def _rest(state: HeadState, duty: HeadDuty, why: str) -> HeadState:
    return replace(state, duty=duty, why=why, lives={}, blind=True, failing=None, ending=None)


def _wait_for_address(state: HeadState, now: float, limits: WatchLimits) -> HeadState:
    """Only an operator can bring it back: whether it comes late decides what is reported."""
    since = state.since if state.duty == "no address" else now
    late = f" for more than {limits.address:.0f} s" if now - since >= limits.address else ""
    why = f"the fabric address has not been on this node{late}"
    return replace(_rest(state, "no address", why), since=since)


def _differs(before: str | None, life: str) -> bool:
    return bool(before and life and before != life)


def _note_life(state: HeadState, rank: OwnRank, now: float, limits: WatchLimits) -> HeadState:
    """Another life of rank 0 than before begins a generation, unless its restart did so: the
    workers' ranks wait for one that has gone."""
    if not _differs(state.own or rank.life, rank.life):
        return replace(state, own=rank.life or state.own)
    ours = state.own == state.ended or state.ending is not None
    # Docker starts one that ends at once again and again: the workers' are not ended for each.
    short = now - state.since < limits.confirm and state.own != _FELL
    state = replace(
        state,
        duty="loading",
        own=rank.life,
        ended="",
        ending=None,
        lives={},
        failing=None,
        since=now,
    )
    if ours or short or rank.age >= limits.confirm:
        # One that started while nobody looked may have met the others, and serve.
        return replace(state, why="")
    why = "rank 0 ended, and started again"
    return replace(
        state, why=why, generation=state.generation + 1, begun=now - rank.age, blind=False
    )


def _note_serving(
    state: HeadState, workers: Mapping[int, RankReport], now: float, limits: WatchLimits
) -> HeadState:
    # A report of before the restart names a life that has ended by now.
    current = {n: r for n, r in workers.items() if r.generation == state.generation}
    lives = {rank: report.life for rank, report in current.items() if report.life}
    since = state.since if state.lives else now
    return replace(
        state,
        duty="serving",
        why="",
        lives={**lives, **state.lives, 0: state.own},
        served=state.own,
        blind=False,
        since=since,
        failing=None,
        tries=0 if now - since >= limits.steady else state.tries,
    )


def _restart(
    state: HeadState, why: str, now: float, limits: WatchLimits
) -> tuple[HeadState, RankAction]:
    """A generation that the workers begin by ending their ranks; later, where a limit says so."""
    if len(state.restarts) >= limits.restarts:
        return replace(state, duty="limit", why=why), NOTHING
    pause = limits.back_off * 2 ** (state.tries - 1) if state.tries else 0.0
    if state.restarts and now - state.restarts[-1] < pause:
        return replace(state, duty="waiting", why=why), NOTHING
    state = replace(
        state,
        duty="loading",
        why=why,
        generation=state.generation + 1,
        begun=now,
        ending=now,
        lives={},
        failing=None,
        since=now,
        restarts=(*state.restarts, now),
        tries=state.tries + 1,
    )
    return state, RankAction("restart", why, "group-restart")


def _end_own(
    state: HeadState,
    rank: OwnRank,
    workers: Mapping[int, RankReport],
    now: float,
    limits: WatchLimits,
) -> tuple[HeadState, RankAction]:
    """End rank 0 after the workers' ranks: one that still waits for a head would meet the new rank
    0, and be ended after that."""
    assert state.ending is not None
    behind = any(r.life and r.generation != state.generation for r in workers.values())
    if behind and now - state.ending < limits.confirm:
        return state, NOTHING
    state = replace(state, ending=None, ended=state.own, since=now)
    return state, RankAction("end", state.why) if rank.life else NOTHING


# ---- a worker


@dataclass(frozen=True)
class WorkerView:
    """What a worker's watchdog sees at one time.

    + rank: None where there is none, or Docker does not answer
    + answer: the head's watchdog's, to a query that has ended since the last decision
    + silent: such a query had no answer, and rank 0's /health had none either; False: one of them
      answered; None: no query has ended
    """

    rank: OwnRank | None
    answer: HeadAnswer | None = None
    silent: bool | None = None


@dataclass(frozen=True)
class WorkerState:
    """What a worker's watchdog remembers; in /run, so a reboot forgets it.

    + generation: the head's that its rank belongs to; None: it has heard of none
    + heard: when the head's node last answered; misses: queries without an answer since
    + silenced: its rank was ended since the head fell silent
    + looked: when it looked last
    + ends: when it ended its rank, within the last hour
    """

    duty: WorkerDuty = "alone"
    why: str = ""
    generation: int | None = None
    wish: Wish = "hold"
    heard: float = 0.0
    misses: int = 0
    silenced: bool = False
    looked: float | None = None
    ends: tuple[float, ...] = ()


def decide_worker(
    state: WorkerState, view: WorkerView, now: float, limits: WatchLimits
) -> tuple[WorkerState, RankAction]:
    """The next state of a worker's watchdog, and what it does to its own rank."""
    answer, rank = view.answer, view.rank
    if _gap(state.looked, now, limits):
        # What the head did meanwhile is unknown, and its rank may belong to it.
        state = replace(state, generation=None, wish="hold", misses=0)
    state = replace(state, ends=_within_hour(state.ends, now), looked=now)
    if view.silent:
        state = replace(state, misses=state.misses + 1)
    elif view.silent is False:
        # A head's watchdog that is gone is no reason to end a group that serves.
        state = replace(state, heard=now, misses=0, silenced=False)
    if answer is not None:
        state = replace(state, wish=answer.wish)
    if rank is None or not rank.on_duty or state.wish == "hold":
        # What is started meanwhile is the group, whatever its generation.
        generation = answer.generation if answer else state.generation
        held = rank is not None and rank.on_duty
        duty: WorkerDuty = "off" if not held else "alone" if state.generation is None else "held"
        # A query must be answered again before silence means anything.
        return replace(state, duty=duty, why="", generation=generation, wish="hold"), NOTHING
    if answer is not None and answer.generation != state.generation:
        older = state.generation is not None and rank.life and rank.age >= answer.age
        if answer.wish == "serve" or not older:
            return replace(state, duty="following", generation=answer.generation), NOTHING
        after = replace(state, generation=answer.generation)
        return _end(state, after, f"the head began generation {answer.generation}", now, limits)
    silent = now - state.heard >= limits.silent and state.misses >= limits.misses
    if silent and not state.silenced and rank.life:
        after = replace(state, silenced=True)
        why = f"the head has been silent for {now - state.heard:.0f} s"
        return _end(state, after, why, now, limits)
    if state.duty == "limit" and len(state.ends) >= limits.ends:
        return state, NOTHING
    return replace(state, duty="following", why=""), NOTHING


def note_not_ended(state: WorkerState, before: WorkerState) -> WorkerState:
    """The state after a rank could not be ended: its next look ends it again, within the limit, and
    no report names a generation that the rank does not belong to.

    + state: as decided, as if it had ended; before: as it was then
    """
    return replace(state, generation=before.generation, silenced=before.silenced)


def _end(
    state: WorkerState, after: WorkerState, why: str, now: float, limits: WatchLimits
) -> tuple[WorkerState, RankAction]:
    if len(state.ends) >= limits.ends:
        return replace(state, duty="limit", why=why), NOTHING
    ends = (*state.ends, now)
    key: ActionKey = "silent-head" if after.silenced else "group-restart"
    return replace(after, duty="following", why="", ends=ends), RankAction("end", why, key)


# ---- the memory floor, on every node


@dataclass(frozen=True)
class FloorState:
    """+ below: since when MemAvailable has been below the floor; None: it is not
    + ends: when the rank was ended for it, within the last hour
    + ended: the life that was: once is enough, however long its memory takes to come back
    """

    below: float | None = None
    ends: tuple[float, ...] = ()
    ended: str = ""


def decide_floor(
    state: FloorState, rank: OwnRank | None, missing: int, now: float, limits: WatchLimits
) -> tuple[FloorState, RankAction]:
    """End the rank before the node freezes, whoever started it: a deploy reports a rank that has
    ended, and a frozen node reports nothing.

    + missing: bytes that MemAvailable lacks to the floor; 0 or less: none
    """
    state = replace(state, ends=_within_hour(state.ends, now))
    runs = rank is not None and rank.running and rank.life not in ("", state.ended)
    if rank is None or not runs or missing <= 0:
        return replace(state, below=None), NOTHING
    below = now if state.below is None else state.below
    if now - below < limits.floor:
        return replace(state, below=below), NOTHING
    why = f"MemAvailable was {missing / 1e6:.0f} MB below the floor for {now - below:.0f} s"
    kind: Literal["end", "stop"] = "stop" if len(state.ends) >= limits.floor_ends else "end"
    return FloorState(None, (*state.ends, now), rank.life), RankAction(kind, why, "memory-floor")


# ---- a dockerd that was killed, on every node


@dataclass(frozen=True)
class FallenState:
    """+ since: when the rank was first seen to have fallen; None: it has not
    + starts: when it was started for that, within the last hour
    """

    since: float | None = None
    starts: tuple[float, ...] = ()


def decide_start(
    state: FallenState, rank: OwnRank | None, now: float, limits: WatchLimits, *, held: bool
) -> tuple[FallenState, RankAction]:
    """Start a rank that went down with its dockerd.

    + held: a deploy holds the lease, or may, or another rank was stopped
    """
    state = replace(state, starts=_within_hour(state.starts, now))
    if rank is None or not (rank.armed and rank.fallen):
        return replace(state, since=None), NOTHING
    since = now if state.since is None else state.since
    if held or now - since < limits.fallen or len(state.starts) >= limits.starts:
        return replace(state, since=since), NOTHING
    why = "dockerd was killed, and starts no rank after that"
    return FallenState(None, (*state.starts, now)), RankAction("start", why, "docker-killed")


def _gap(looked: float | None, now: float, limits: WatchLimits) -> bool:
    """Whether a watchdog has not looked for so long that it knows nothing any more: it has just
    started, or it was stopped or frozen."""
    return looked is None or now - looked >= limits.confirm


def _within_hour(times: tuple[float, ...], now: float) -> tuple[float, ...]:
    return tuple(at for at in times if now - at < HOUR)

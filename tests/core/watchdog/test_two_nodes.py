"""Two simulated nodes with both watchdogs, under faults: when they act, how often, and that the
group serves again.

The model of the engine is worse than the real one: a rank whose peer has gone may hang for ever,
and a rank that has met a peer never meets another.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st

from cluster.watchdog.duties import (
    HOUR,
    FallenState,
    HeadState,
    HeadView,
    OwnRank,
    Proof,
    RankAction,
    RankReport,
    WatchLimits,
    WorkerState,
    WorkerView,
    decide_head,
    decide_start,
    decide_worker,
)

STEP = 5
LIMITS = WatchLimits()
# Seconds: until a rank looks for a peer (it imports torch first); how long it waits for one; from
# there until it serves; between two proofs; Docker's pause before it starts a rank again; until a
# dockerd that was killed answers again.
IMPORT, MEET, LOAD, PROVE, PAUSE, DOCKER = 15, 300, 120, 30, 5, 10
# Faults begin within the first half hour. Whatever they were, the group serves a steady while
# within one window of the limit and one more load after the last has ended.
FAULTY, BOUND = 1800, HOUR + 2 * LIMITS.load


@dataclass
class Process:
    life: str
    started: int
    peer: str = ""
    loads: int = 0
    frozen: bool = False


@dataclass
class Node:
    """One node: its container, and what its watchdog remembers."""

    armed: bool = True
    stopped: bool = False
    fallen: FallenState | None = None
    mute: int = 0
    process: Process | None = None
    again: int = 0
    booted: int = 0
    off: int = 0
    deaf: int = 0
    reported: tuple[int, RankReport] | None = None


@dataclass(frozen=True)
class Fault:
    """+ what: happens at `at` to node `node`, for `lasts` seconds where it lasts"""

    what: str
    at: int
    node: int = 0
    lasts: int = 0


@dataclass
class World:
    hangs: tuple[bool, bool]
    now: int = 0
    lives: int = 0
    head: Node = field(default_factory=Node)
    worker: Node = field(default_factory=Node)
    cut: int = 0
    lost: int = 1
    lease: tuple[int, int] | None = None
    served: set[str] = field(default_factory=set)
    served_at: int | None = None
    asked: int = 0
    head_ends: list[int] = field(default_factory=list)
    worker_ends: list[int] = field(default_factory=list)
    head_state: HeadState = field(default_factory=lambda: HeadState(1_000_000, 0.0))
    worker_state: WorkerState = field(default_factory=WorkerState)
    by_hand: bool = False
    log: list[str] = field(default_factory=list)

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.head, self.worker

    def start(self, node: Node) -> None:
        self.lives += 1
        node.process, node.stopped = Process(f"life{self.lives}", self.now), False
        node.fallen = None

    def begin(self, fault: Fault) -> None:
        node, until = self.nodes[fault.node], self.now + fault.lasts
        if fault.what == "kill":
            self.end(node)
        elif fault.what == "freeze" and node.process:
            node.process.frozen = True
        elif fault.what == "power":
            node.process, node.off, node.booted = None, until, until
            if node is self.head:
                # The lease lies in the head's memory, and a deploy ends without it.
                self.lease = None
                self.head_state = HeadState(2_000_000 + self.now, 0.0)
                node.reported = None
            else:
                self.worker_state = WorkerState()
        elif fault.what == "docker" and not (node.off or node.stopped):
            node.process, node.fallen = None, FallenState()
            node.mute = self.now + DOCKER
        elif fault.what == "cut":
            self.cut = until
        elif fault.what == "deaf":
            node.deaf = until
        elif fault.what == "deploy" and self.lease is None and not self.head.off:
            self.lease = (self.now, self.now)
        elif fault.what == "by hand" and self.lease is None:
            node.process, node.stopped = None, True
            self.by_hand = True

    def end(self, node: Node) -> None:
        node.process, node.again = None, self.now + PAUSE

    def run_docker(self) -> None:
        for node in self.nodes:
            if node.off and node.off <= self.now:
                node.off = 0
            starts = node.armed and not (node.stopped or node.off or node.fallen)
            if node.process is None and starts and node.again <= self.now:
                self.start(node)

    def run_engine(self) -> None:
        h, w = self.head.process, self.worker.process
        apart = self.cut > self.now
        awake = h and w and not (h.frozen or w.frozen or apart)
        looking = [p for p in (h, w) if p and self.now - p.started >= IMPORT and not p.peer]
        if h and w and awake and len(looking) == 2:
            h.peer, w.peer, h.loads, w.loads = w.life, h.life, self.now + LOAD, self.now + LOAD
        for node, own, other in ((self.head, h, w), (self.worker, w, h)):
            if own is None or own.frozen:
                continue
            alone = not own.peer and self.now - own.started > MEET
            gone = own.peer and (other is None or other.life != own.peer)
            if alone or (gone and not self.hangs[node is self.worker]):
                self.end(node)
        if self.serves():
            assert h and w
            self.served |= {h.life, w.life}

    def serves(self) -> bool:
        h, w = self.head.process, self.worker.process
        return bool(
            h
            and w
            and h.peer == w.life
            and w.peer == h.life
            and h.loads <= self.now
            and not (h.frozen or w.frozen)
            and self.cut <= self.now
        )

    def run_deploy(self) -> None:
        """A deploy that starts the group anew, and again until it serves."""
        if self.lease is None:
            return
        _, started = self.lease
        if self.serves() and started > self.lease[0]:
            self.head.armed = self.worker.armed = True
            self.lease = None
        elif not (self.head.off or self.worker.off) and (
            self.now >= started + (10 if started == self.lease[0] else 2 * LOAD)
        ):
            for node in self.nodes:
                node.armed = False
                self.start(node)
            self.lease = (self.lease[0], self.now)

    def rank(self, node: Node) -> OwnRank | None:
        own = node.process
        if node.mute > self.now:
            return None
        if own is None:
            down = node.stopped or not node.armed or node.fallen is not None
            return OwnRank("", 0.0, node.armed, not down, node.fallen is not None)
        return OwnRank(own.life, self.now - own.started, node.armed)

    def watch_head(self) -> None:
        node = self.head
        if node.off or node.deaf > self.now:
            return
        proof = None
        if self.now % PROVE == 0 and node.process:
            proof = Proof(node.process.life, "" if self.serves() else "no answer")
        workers = {}
        if node.reported and self.now - node.reported[0] < LIMITS.silent:
            workers = {1: node.reported[1]}
        trouble = "no answer" if node.mute > self.now else ""
        view = HeadView(self.rank(node), self.lease is not None, True, proof, workers, trouble)
        clock = float(self.now - node.booted)
        self.head_state, action = decide_head(self.head_state, view, clock, LIMITS)
        self.start_fallen(node, clock, held=self.head_state.duty in ("held", "off", "no address"))
        if action.kind == "end":
            assert self.lease is None, "the head acts while a deploy holds the lease"
            self.check_own(node, action)
            assert node.process
            late = self.now - node.process.started >= LIMITS.load
            assert node.process.life in self.served or late, "the head ends what only loads"
            self.head_ends.append(self.now)
            self.end(node)

    def watch_worker(self) -> None:
        node, answer, silent = self.worker, None, True
        if node.off or node.deaf > self.now:
            return
        fabric = self.cut <= self.now and not self.head.off
        if fabric and self.head.deaf <= self.now and self.now % self.lost:
            own = self.rank(node)
            life, on_duty = (own.life, own.on_duty) if own else ("", True)
            report = RankReport(self.worker_state.generation or 0, life, on_duty)
            self.head.reported = (self.now, report)
            clock = float(self.now - self.head.booted)
            answer = self.head_state.answer(clock, LIMITS, held=self.lease is not None)
            silent, self.asked = False, self.now
        elif fabric and self.head.process and not self.head.process.frozen:
            silent = False
        view = WorkerView(self.rank(node), answer, silent)
        clock = float(self.now - node.booted)
        self.worker_state, action = decide_worker(self.worker_state, view, clock, LIMITS)
        self.start_fallen(node, clock, held=self.worker_state.wish == "hold")
        if action.kind == "end":
            self.check_own(node, action)
            if self.lease is not None:
                assert self.asked <= self.lease[0], "a worker that could ask acts during a deploy"
            self.worker_ends.append(self.now)
            # A restart that the head has begun goes on, even where the fabric is back by then.
            begun = self.head_state.ending is not None
            assert begun or not (self.serves() and fabric), f"ends what serves: {self.log}"
            self.end(node)

    def start_fallen(self, node: Node, clock: float, *, held: bool) -> None:
        if node.fallen is not None:
            state, action = decide_start(node.fallen, self.rank(node), clock, LIMITS, held=held)
            node.fallen = state
            if action.kind == "start":
                self.start(node)

    def check_own(self, node: Node, action: RankAction) -> None:
        self.log.append(f"{self.now}: {'head' if node is self.head else 'worker'}: {action.why}")
        assert node.armed and not node.stopped and node.process, "acts on what was stopped"

    def step(self) -> None:
        self.now += STEP
        self.run_docker()
        self.run_engine()
        self.run_deploy()
        # Within a step the worker hears what the head has published before.
        self.watch_worker()
        self.watch_head()
        serves = self.serves() and self.lease is None
        self.served_at = (self.served_at or self.now) if serves else None


def run(
    faults: list[Fault],
    hangs: tuple[bool, bool] = (True, True),
    lost: int = 0,
    bound: float = BOUND,
) -> World:
    """The world once it has served steadily after the last fault."""
    world = World(hangs, lost=lost or 10**9)
    for node in world.nodes:
        world.start(node)
    waiting = sorted(faults, key=lambda fault: fault.at)
    quiet = max((f.at + f.lasts for f in faults), default=0)
    while world.served_at is None or world.now < quiet or world.now - world.served_at < 240:
        world.step()
        while waiting and waiting[0].at <= world.now:
            world.begin(waiting.pop(0))
        if world.lease is not None:
            quiet = max(quiet, world.now)
        if world.now >= quiet + bound:
            assert world.by_hand or not (world.head.armed and world.worker.armed), world.log
            break
    for ends, most in ((world.head_ends, LIMITS.restarts), (world.worker_ends, LIMITS.ends)):
        for at in ends:
            booted = [f.at for f in faults if f.what == "power"]
            if not any(at - HOUR < b <= at for b in booted):
                assert sum(at - HOUR < other <= at for other in ends) <= most
    return world


LASTING = st.sampled_from([10, 60, 120, 400, 900])
FAULTS = st.builds(
    Fault,
    what=st.sampled_from(["kill", "freeze", "power", "docker", "cut", "deaf", "deploy"]),
    at=st.integers(0, FAULTY // STEP).map(lambda n: n * STEP),
    node=st.integers(0, 1),
    lasts=LASTING,
)


@settings(max_examples=40, deadline=None)
@given(
    faults=st.lists(FAULTS, max_size=6),
    hangs=st.tuples(st.booleans(), st.booleans()),
    lost=st.sampled_from([0, 10, 15]),
)
def test_after_any_faults_the_group_serves_again(
    faults: list[Fault], hangs: tuple[bool, bool], lost: int
) -> None:
    run(faults, hangs, lost)


@pytest.mark.parametrize(
    "faults",
    [
        # A rank that still waits for its head, and would meet the new one before it is ended.
        [Fault("kill", 5, 1)],
        # A group that formed while nobody looked.
        [Fault("deaf", 5, 0, 400), Fault("kill", 5, 0)],
        [Fault("cut", 415, 1, 900), Fault("deaf", 1175, 0, 900)],
        [Fault("cut", 1200, 0, 400), Fault("deaf", 1335, 1, 400), Fault("freeze", 695, 1)],
        # A rank that Docker starts just as it is to be ended.
        [Fault("freeze", 15, 1)],
        # A head that takes its lease with it.
        [Fault("deploy", 760), Fault("power", 760, 0, 400), Fault("kill", 780, 0)],
    ],
)
@pytest.mark.parametrize("hangs", [(True, True), (True, False), (False, True), (False, False)])
def test_faults_that_once_led_to_loops(faults: list[Fault], hangs: tuple[bool, bool]) -> None:
    run(faults, hangs)


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize(
    ("what", "bound"),
    [
        ("kill", LOAD + 30),
        ("freeze", LIMITS.fail + 2 * PROVE + LOAD + 30),
        ("docker", LIMITS.fail + 2 * PROVE + LOAD + 30),
        ("power", LIMITS.fail + LIMITS.load + LOAD),
        ("cut", LIMITS.fail + LIMITS.load + LOAD),
        ("deploy", 2 * LOAD),
    ],
)
def test_after_one_fault_of_a_group_that_serves(what: str, bound: float, node: int) -> None:
    for hangs in ((True, True), (True, False), (False, True), (False, False)):
        world = run([Fault(what, 400, node, 120)], hangs)
        assert world.served_at is not None
        assert world.served_at <= 520 + bound, world.log


@pytest.mark.parametrize("lasts", [(60, 60), (60, 400), (400, 60)])
def test_both_nodes_lose_power(lasts: tuple[int, int]) -> None:
    world = run([Fault("power", 400, node, lasts[node]) for node in (0, 1)])
    assert world.served_at is not None
    assert world.served_at <= 800 + LOAD + 30, world.log


@pytest.mark.parametrize("node", [0, 1])
def test_a_rank_stopped_by_hand_stays_down_and_nothing_else_happens(node: int) -> None:
    world = run([Fault("by hand", 400, node)], bound=1200)
    assert world.nodes[node].process is None
    assert not world.head_ends
    assert len(world.worker_ends) == 0

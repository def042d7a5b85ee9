"""When a group is ready, has failed, or must still be waited for. No clock: `now` is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.engine.log import CAPTURING, MEETING
from cluster.engine.nccl import Collectives
from cluster.findings import Finding, Level, error
from cluster.node.readings import Rank

# Several nodes load and meet; a single one only loads.
SEVERAL_NODES_SECONDS = 600
ONE_NODE_SECONDS = 300
# What a first start may take longer: an owner of two Sparks reports starts that are 10 to 15 min
# shorter with what the image has compiled before (README of tonyd2wild's V4-Flash-Vision).
COMPILE_SECONDS = 900
# A progress line is due at least this often.
REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class RankHealth:
    """One rank's health, as it was read once.

    + rank: the container or process; None where it is gone
    + health: HTTP status of its /health; 0 where nothing answered
    + phase: the step that its log shows, "" for none; progress: of a capture, "12 of 36"
    + words: the last line of its log; compiling: a compiler runs on its node
    + nccl: versions that its log names, the oldest first
    + lost: why the node could not be read, "" when it answered
    """

    node: str
    rank: Rank | None = None
    health: int = 0
    phase: str = ""
    lost: str = ""
    progress: str = ""
    words: str = ""
    compiling: bool = False
    nccl: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        return self.rank is not None and self.rank.running and self.health == 200

    def __str__(self) -> str:
        if self.lost:
            return f"{self.node} does not answer"
        if self.rank is None or not self.rank.running:
            return f"{self.node} {self.rank.status if self.rank else 'gone'}"
        steps = (self.phase, self.progress, "compiling kernels" * self.compiling)
        doing = f" ({', '.join(filter(None, steps))})" if self.phase else ""
        return f"{self.node} {'healthy' if self.healthy else f'loading{doing}'}"


@dataclass(frozen=True)
class ReadyLimits:
    """Seconds that a group has to get ready, and that a node may go without an answer (`lost`).

    + note: why `ready` is longer than usual, for the log; "" where it is not
    """

    ready: float
    lost: float = 30.0
    note: str = ""

    @property
    def capture(self) -> float:
        """Seconds without progress after which a capture of CUDA graphs is taken to hang: half of
        `ready`, so 300 for several nodes and 150 for one, 750 and 600 for a first start, and more
        where a user grants more.

        A whole capture took 4 to 10 s on two H100 cards (3 and 36 sizes), prefill graphs of a 27B
        model 54 s on a Spark. A first capture may compile kernels for 8 minutes there (an owner's
        97 CUTLASS files of FlashInfer): a compiler that runs counts as progress.
        """
        return self.ready / 2


@dataclass
class ReadinessWatch:
    """The wait for a group, from `begun` (seconds of any clock) on.

    + restarts: node → how often Docker had restarted its rank before the wait. Of these ranks
      Docker may restart each once more: it may be about to when the wait begins. A rank that is not
      among them was started with its policy off
    + collectives: what its NCCL is judged by; None: not at all, as it has served before
    """

    limits: ReadyLimits
    begun: float
    restarts: Mapping[str, int] = field(default_factory=dict)
    collectives: Collectives | None = None
    _answered: dict[str, float] = field(default_factory=dict)
    _steps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _moved: dict[str, float] = field(default_factory=dict)

    def failures(self, healths: Sequence[RankHealth], now: float) -> tuple[Finding, ...]:
        """Why the wait is over without success; () while the group may still get ready."""
        self._note(healths, now)
        ended = tuple(f for health in healths if (f := self._ended(health, now)) is not None)
        return ended or self.wrong_nccl(healths) or self._late(healths, now)

    def _note(self, healths: Sequence[RankHealth], now: float) -> None:
        for health in healths:
            if health.lost:
                continue
            self._answered[health.node] = now
            step = (health.phase, health.progress, health.words)
            if health.compiling or self._steps.get(health.node) != step:
                self._steps[health.node], self._moved[health.node] = step, now

    def _ended(self, health: RankHealth, now: float) -> Finding | None:
        """The end, restart or loss of one rank."""
        if health.lost:
            silent = now - self._answered.get(health.node, self.begun)
            if silent < self.limits.lost:
                return None
            return error(
                f"the node has not answered for {silent:.0f} s: {health.lost}",
                health.node,
                key="node-silent",
            )
        if health.rank is None:
            return error("the rank is gone", health.node, key="rank-gone")
        ran_before = health.node in self.restarts
        allowed = self.restarts[health.node] + 1 if ran_before else 0
        if health.rank.restarts > allowed:
            return error(
                f"{health.rank.name} keeps restarting by itself", health.node, key="restart-loop"
            )
        if ran_before and health.rank.status == "restarting":
            return None
        if not health.rank.running and health.rank.status != "created":
            return error(
                f"{health.rank.name} has ended: {ending(health.rank)}",
                health.node,
                key="rank-ended",
            )
        return None

    def wrong_nccl(self, healths: Sequence[RankHealth]) -> tuple[Finding, ...]:
        """NCCLs that will hang: no reason to wait until they do."""
        loaded = {health.node: health.nccl for health in healths}
        findings = self.collectives.findings(loaded) if self.collectives else ()
        return tuple(finding for finding in findings if finding.level is Level.ERROR)

    def _stalled(self, healths: Sequence[RankHealth], now: float) -> float:
        """For how long a capture of CUDA graphs has made no progress; 0 if none runs, or a rank
        that it may wait for moves. A healthy rank's log moves with every look."""
        if not any(health.phase == CAPTURING for health in healths):
            return 0.0
        moved = [self._moved.get(h.node, self.begun) for h in healths if not (h.healthy or h.lost)]
        return now - max(moved, default=now)

    def _capture_hangs(self, healths: Sequence[RankHealth], stalled: float) -> Finding:
        states = "; ".join(str(health) for health in healths)
        loaded = {health.node: health.nccl for health in healths}
        causes = self.collectives.hang_causes(loaded) if self.collectives else ()
        likely = f"; likely: {'; '.join(causes)}" if causes else ""
        return error(
            f"the capture of CUDA graphs has made no progress for {stalled:.0f} s: "
            f"{states}{likely}",
            cure="--data disable_cuda_graph=true serves without them, slower; or --data "
            f"ready_timeout={2 * self.limits.ready:.0f} if it compiles kernels",
            key="capture-hangs",
        )

    def _late(self, healths: Sequence[RankHealth], now: float) -> tuple[Finding, ...]:
        waited, stalled = now - self.begun, self._stalled(healths, now)
        if stalled >= self.limits.capture:
            return (self._capture_hangs(healths, stalled),)
        if waited < self.limits.ready:
            return ()
        states = "; ".join(str(health) for health in healths)
        # All ranks still wait for each other: look at the network first.
        apart = len(healths) > 1 and all(health.phase == MEETING for health in healths)
        check = (
            "the ranks did not meet: pyinfra -y INVENTORY deploys/check.py; or " if apart else ""
        )
        loaded = {health.node: health.nccl for health in healths}
        causes = self.collectives.hang_causes(loaded) if self.collectives and not apart else ()
        states += f"; likely: {'; '.join(causes)}" * bool(causes)
        return (
            error(
                f"not ready after {waited:.0f} s (ready_timeout = {self.limits.ready:.0f}): "
                f"{states}",
                cure=f"{check}--data ready_timeout={2 * self.limits.ready:.0f} if it only loads "
                "slowly",
                key="not-ready",
            ),
        )


def ending(rank: Rank) -> str:
    """How a rank ended. 137 alone is no proof of an OOM: SGLang kills itself that way."""
    killed = ", killed for memory" if rank.oom_killed else ""
    return f"{rank.status} with exit code {rank.exit_code}{killed}"


def ready_limits(timeout: int | str, nodes: int, *, first: bool = False) -> ReadyLimits:
    """The declared limit, or the default for the number of nodes.

    + first: on some node the model has not served with this image: kernels are compiled
    """
    note = " (its kernels are not compiled yet)" if first else ""
    if timeout != "auto":
        return ReadyLimits(float(timeout), note=note)
    seconds = SEVERAL_NODES_SECONDS if nodes > 1 else ONE_NODE_SECONDS
    return ReadyLimits(float(seconds + first * COMPILE_SECONDS), note=note)

"""When a group is ready, has failed, or is still to be waited for. No clock: `now` is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.findings import Finding, error
from cluster.node import Rank

# The seed's limits: several nodes load and meet, one only loads.
SEVERAL_NODES_SECONDS = 600
ONE_NODE_SECONDS = 300
# A progress line is due at least this often.
REPORT_SECONDS = 10.0
# The engine is root in its container, and so are the files that it began: the login can't go on.
DOWNLOAD_CURE = (
    "check the node's way to the hub, or download there as the engine does (the settings hf_cache, "
    "image and model in capitals; -e HF_TOKEN for a gated model): "
    "docker run --rm -it -v HF_CACHE:/root/.cache/huggingface IMAGE hf download MODEL"
)


@dataclass(frozen=True)
class Look:
    """One look at one rank.

    + seen: the container or process; None where it is gone
    + health: HTTP status of its /health; 0 where nothing answered
    + phase: what its log says it is doing, "" where it does not say
    + weights: bytes of the model that its node holds while they are still coming, else None
    + lost: why the node could not be asked, "" when it answered
    """

    node: str
    seen: Rank | None = None
    health: int = 0
    phase: str = ""
    weights: int | None = None
    lost: str = ""

    @property
    def healthy(self) -> bool:
        return self.seen is not None and self.seen.running and self.health == 200

    def __str__(self) -> str:
        if self.lost:
            return f"{self.node} cannot be asked"
        if self.seen is None or not self.seen.running:
            return f"{self.node} {self.seen.status if self.seen else 'gone'}"
        doing = f" ({self.phase})" if self.phase else ""
        come = f", {self.weights / 1e9:.1f} GB of weights here" if self.weights else ""
        return f"{self.node} {'healthy' if self.healthy else f'loading{doing}'}{come}"


@dataclass(frozen=True)
class Limits:
    """Seconds: until ready (from the end of any download), without a byte, without an answer."""

    ready: float
    stall: float
    lost: float = 30.0


@dataclass
class Watch:
    """A group being waited for, from `begun` (seconds of any clock) on.

    The deadline runs from the last byte of a download, so that a slow line costs no one the start.
    """

    limits: Limits
    begun: float
    restarts: Mapping[str, int] = field(default_factory=dict)
    _grown: dict[str, tuple[int, float]] = field(default_factory=dict)
    _answered: dict[str, float] = field(default_factory=dict)

    def failures(self, looks: Sequence[Look], now: float) -> tuple[Finding, ...]:
        """Why the wait is over without success; empty while there is hope."""
        self._note(looks, now)
        ended = tuple(f for look in looks if (f := self._ended(look, now)) is not None)
        return ended or self._stalled(looks, now) or self._late(looks, now)

    def _note(self, looks: Sequence[Look], now: float) -> None:
        for look in looks:
            if not look.lost:
                self._answered[look.node] = now
            if look.weights is None:
                continue
            if look.weights > self._grown.get(look.node, (-1, now))[0]:
                self._grown[look.node] = (look.weights, now)

    def _ended(self, look: Look, now: float) -> Finding | None:
        """The end, restart or loss of one rank."""
        if look.lost:
            silent = now - self._answered.get(look.node, self.begun)
            if silent < self.limits.lost:
                return None
            return error(f"the node has not answered for {silent:.0f} s: {look.lost}", look.node)
        if look.seen is None:
            return error("the rank is gone", look.node)
        if look.seen.restarts > self.restarts.get(look.node, 0):
            return error(f"{look.seen.name} has restarted by itself: it ends at start", look.node)
        if not look.seen.running and look.seen.status != "created":
            return error(f"{look.seen.name} has ended: {ending(look.seen)}", look.node)
        return None

    def _stalled(self, looks: Sequence[Look], now: float) -> tuple[Finding, ...]:
        silent = {
            look.node: (look.weights, now - self._grown[look.node][1])
            for look in looks
            if look.weights is not None
        }
        return tuple(
            error(
                f"the download of the weights stands still at {size / 1e9:.1f} GB: no byte for "
                f"{seconds:.0f} s (download_stall_timeout = {self.limits.stall:.0f})",
                node,
                DOWNLOAD_CURE,
            )
            for node, (size, seconds) in silent.items()
            if seconds >= self.limits.stall
        )

    def _late(self, looks: Sequence[Look], now: float) -> tuple[Finding, ...]:
        waited = now - max((since for _, since in self._grown.values()), default=self.begun)
        if waited < self.limits.ready or any(look.weights is not None for look in looks):
            return ()
        states = "; ".join(str(look) for look in looks)
        return (
            error(
                f"not ready after {waited:.0f} s (ready_timeout = {self.limits.ready:.0f}): "
                f"{states}",
                cure=f"--data ready_timeout={2 * self.limits.ready:.0f} if it only loads slowly",
            ),
        )


def ending(rank: Rank) -> str:
    """How a rank ended. 137 alone is no proof of an OOM: SGLang kills itself so."""
    killed = ", killed for memory" if rank.oom_killed else ""
    return f"{rank.status} with exit code {rank.exit_code}{killed}"


def ready_seconds(timeout: int | str, nodes: int) -> float:
    """The declared limit, or the default for the number of nodes."""
    if timeout != "auto":
        return float(timeout)
    return float(SEVERAL_NODES_SECONDS if nodes > 1 else ONE_NODE_SECONDS)

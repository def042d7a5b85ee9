"""When an event can have come at the earliest: never after it did, and no earlier than need be."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pytest
from spark_bench.protocol import reading
from spark_bench.protocol.content import parse_response
from spark_bench.protocol.dialects import RequestTerms, dialect
from spark_bench.protocol.reading import earliest_ns, read_exchange
from spark_bench.record import QUEUED_NS, Ended, Exchange
from wire_bytes import CHUNKED, LAST_CHUNK, chunk, delta, event, exchange, job, usage

MS = 1_000_000
HEAD = CHUNKED
TOKENS = [chunk(event(delta(content="w"))) for _ in range(6)]


class SimulatedLoop:
    """The recorder's loop over one socket, as the kernel would let it see these segments.

    segments: (arrival in ns, bytes) in order; each is at the socket some microseconds later
    """

    def __init__(self, rng: random.Random, segments: Sequence[tuple[int, bytes]]) -> None:
        self.rng = rng
        self.segments = segments
        queued = (at + rng.choice((1_000, QUEUED_NS - 1)) for at, _ in segments)
        self.shown = list(accumulate(queued, max))
        self.now = 0
        self.read = 0

    def arrived(self) -> int:
        return bisect_right(self.shown, self.now)

    def work(self, most_ms: float) -> None:
        """Time passes: a little, or as much as a stopped process takes."""
        long = self.rng.random() < 0.1
        self.now += round(self.rng.uniform(0, most_ms * (10 if long else 1)) * MS)

    def record(self, spacing_ms: float) -> Exchange:
        stamps, ends, looks = array("q"), array("q"), array("q")
        counted, looked, data = array("q"), array("q"), b""
        before = latest = 0
        while self.read < len(self.segments):
            before, latest = latest, self.now
            if not looks or self.now - looks[-1] >= spacing_ms * MS:
                looks.append(self.now)
            self.work(0.1)
            if self.arrived() == self.read:  # blocks until something comes, or up to 20 ms
                following = self.shown[self.read]
                self.now = min(max(self.now, following), self.now + 20 * MS)
            reported = self.arrived() > self.read
            self.work(0.1)  # between being woken and reading
            if not reported:
                continue
            until = self.arrived()
            data += b"".join(each for _, each in self.segments[self.read : until])
            stamps.append(self.segments[until - 1][0])
            ends.append(len(data))
            self.read = until
            if self.rng.random() < 0.5:
                looked.extend((len(ends), before - QUEUED_NS))
            self.work(0.005)
            segments = self.arrived()
            self.work(0.005)
            if self.rng.random() < 0.7 and self.arrived() == self.read:
                counted.extend((len(ends), segments))
            self.work(self.rng.choice([0.002, 1.0]))  # other streams, a nap
        return Exchange(
            7, 0, 0, 0, Ended.COMPLETE, stamps=stamps, ends=ends, data=data,
            segments=counted, looked=looked, looks=np.asarray(looks),
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(300))
def test_an_event_never_came_before_its_earliest_time(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [HEAD, *TOKENS, chunk(event(usage(6))), chunk(b"data: [DONE]\n\n") + LAST_CHUNK]
    segments: list[tuple[int, bytes]] = []
    came: list[int] = []  # when each event was complete
    at = 0
    for piece in pieces:
        at += round(rng.choice([0.0, 0.01, 0.1, 0.5, 10, 80]) * rng.random() * MS)
        if segments and rng.random() < 0.3:  # bundled with the one before
            at, before = segments.pop()
            piece = before + piece
        elif rng.random() < 0.2 and piece != HEAD:  # in two segments
            cut = rng.randrange(1, len(piece) - 8)
            segments.append((at, piece[:cut]))
            at += round(rng.random() * MS)
            piece = piece[cut:]
        segments.append((at, piece))
    ends = np.cumsum([len(piece) for piece in pieces])[1:] - len(b"\r\n")
    ends[-1] -= len(LAST_CHUNK)
    sizes = np.cumsum([len(each) for _, each in segments])
    came = [segments[int(np.searchsorted(sizes, end))][0] for end in ends]
    recorded = SimulatedLoop(rng, segments).record(rng.choice([0.0, 0.25, 5.0]))
    answer = parse_response(recorded)
    since = earliest_ns(recorded, answer)
    earliest = answer.stamps if since is None else since
    assert len(came) == len(answer.stamps)
    assert np.all(earliest <= came), (earliest, came)
    assert np.all(answer.stamps >= came), (answer.stamps, came)


def test_a_read_that_ended_with_its_event_has_its_time() -> None:
    recorded = exchange(
        [HEAD, *TOKENS[:2], chunk(event(usage(2))) + chunk(b"data: [DONE]\n\n") + LAST_CHUNK]
    )
    request = read_exchange(recorded, job(2), dialect("chat"), RequestTerms(model="m"))
    assert request.token_since_ns.size == 0
    assert (request.done_since_ns, request.done_ns) == (4000, 4000)


@pytest.fixture(autouse=True)
def queued(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes at most 50 ns to the socket where times are a thousand nanoseconds apart."""
    if "seed" not in request.fixturenames:
        monkeypatch.setattr(reading, "QUEUED_NS", 50)


SHOWN, NEXT = np.array([100, 2400, 2600, 4000]), np.array([100, 2400, 2600, 3020, 4000])


@pytest.mark.parametrize(
    ("more", "since"),
    [
        pytest.param({}, [2000, 2000, 3000], id="after the read before"),
        pytest.param({"looks": SHOWN}, [2350, 2350, 3000], id="not there in a look"),
        pytest.param({"looks": NEXT}, [2350, 2350, 3000], id="the next look is near its stamp"),
        pytest.param({"looks": np.array([2950])}, [2000, 2000, 3000], id="one look"),
        pytest.param({"looked": array("q", [3, 2700])}, [2700, 2700, 3000], id="its own look"),
        pytest.param({"segments": array("q", [2, 2, 3, 3])}, [3000] * 3, id="one segment"),
        pytest.param({"segments": array("q", [3, 4])}, [2000, 2000, 3000], id="one more"),
        pytest.param({"segments": array("q", [2, 5, 3, 6])}, [3000] * 3, id="more, but earlier"),
        pytest.param({"unstamped": True, "looks": SHOWN}, [2350] * 3, id="no stamps"),
    ],
)
def test_what_is_known_of_tokens_in_one_read(more: dict[str, object], since: list[int]) -> None:
    last = chunk(event(usage(3))) + chunk(b"data: [DONE]\n\n") + LAST_CHUNK
    recorded = exchange([HEAD, chunk(event(delta(role="assistant"))), b"".join(TOKENS[:3]), last])
    for name, value in more.items():
        setattr(recorded, name, value)
    request = read_exchange(recorded, job(3), dialect("chat"), RequestTerms(model="m"))
    assert list(request.token_ns) == [3000] * 3
    known = request.token_since_ns if request.token_since_ns.size else request.token_ns
    assert list(known) == since


def test_a_part_of_the_next_event_may_have_come_later() -> None:
    first, second = TOKENS[0], TOKENS[1]
    last = chunk(event(usage(2))) + chunk(b"data: [DONE]\n\n") + LAST_CHUNK
    recorded = exchange([HEAD, first + second[:40], second[40:], last])
    request = read_exchange(recorded, job(2), dialect("chat"), RequestTerms(model="m"))
    assert list(request.token_since_ns) == [1000, 3000]
    assert list(request.token_ns) == [2000, 3000]


def test_what_the_kernels_clock_may_be_off_counts() -> None:
    last = chunk(event(usage(2))) + chunk(b"data: [DONE]\n\n") + LAST_CHUNK
    recorded = exchange([HEAD, b"".join(TOKENS[:2]), last])
    recorded.looks = np.array([1200, 1400, 1900])
    recorded.clock_error_ns = 200
    request = read_exchange(recorded, job(2), dialect("chat"), RequestTerms(model="m"))
    assert list(request.token_since_ns) == [1150, 2000]

"""Our client inside this process, so that each token's time can be compared with its true one.

    python -m peers.stamps URL STREAMS REQUESTS OUTPUT

Uses what `spark-bench run` uses: recorder, reading, summary. Prints JSON with times in
milliseconds; the errors of time stamps are in microseconds.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterable, Sequence
from typing import Any

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray
from spark_bench.client.recorder import Recorder
from spark_bench.client.tally import cpu_seconds, peak_rss, undisturbed
from spark_bench.client.target import request_bytes, target
from spark_bench.metrics.summary import summarize
from spark_bench.metrics.times import TimedRequests
from spark_bench.protocol.dialects import Dialect, RequestTerms, dialect
from spark_bench.protocol.reading import read_exchange
from spark_bench.record import Exchange, Job, Load, Message, Prompt, Request, SlotStep, Timing
from spark_bench.reference_server.streams import Stream, read_dump

from peers.actual import actual, steady_rate
from peers.cases import INPUT
from peers.processes import settle, waited_seconds
from peers.reported import from_sglang
from peers.scoring import errors, truths

ID = re.compile(rb"x-reference-id: (\d+)", re.IGNORECASE)
# Counts with each event, as `spark-bench run` requests them from the reference server.
ASKING = RequestTerms(model="", continuous_usage=True)


def main() -> None:
    settle()
    url, streams, requests, output = sys.argv[1], *map(int, sys.argv[2:])
    print(json.dumps(measure(url, streams, requests, output)))


def measure(url: str, streams: int, requests: int, output: int) -> dict[str, Any]:
    """One run, and everything that its time stamps show."""
    spoken = dialect("chat")
    recorder = Recorder(target(url))
    load = Load(jobs(url, spoken, requests, output), steps=(SlotStep(0.0, streams),))
    recorder.open(streams)
    waited = waited_seconds()
    recording = recorder.record(load)
    waited = waited_seconds() - waited
    before = cpu_seconds()
    with undisturbed():
        pairs = [
            (_id(exchange), read_exchange(exchange, load.jobs[exchange.index], spoken, ASKING))
            for exchange in recording.exchanges()
        ]
    parsing = cpu_seconds() - before
    recorder.close()
    with urllib.request.urlopen(f"{url}/_reference/dump") as dump:
        log = {stream.id: stream for stream in read_dump(dump.read())}
    true = actual(list(log.values()), {number: request.sent_ns for number, request in pairs})
    reported = from_sglang(
        msgspec.to_builtins(summarize(TimedRequests([request for _, request in pairs])))
    )
    every = token_stamp_errors((request, log[number]) for number, request in pairs)
    tally = recording.tally
    return {
        "errors": errors(reported, true),
        "truths": truths(reported, true),
        "accept_ms": true.accept,
        "stamp_us": microseconds(every),
        "lag_us": microseconds(tally.lags.values),
        "late_us": microseconds(tally.lates.values),
        "shared": shared_stamps([request for _, request in pairs]),
        "steady_rate": steady_rate(list(log.values())),
        "true_rate": true.throughput,
        "true_itl_p50": true.itl.get("p50"),
        "chunks": true.sent,
        "completed": reported.completed,
        "cpu_seconds": recording.cpu_seconds,
        "waited_seconds": waited,
        "parse_seconds": parsing,
        "peak_rss": peak_rss(),
    }


def jobs(url: str, spoken: Dialect, requests: int, output: int) -> list[Job]:
    """Requests with INPUT words each: the reference server counts words as tokens."""
    text = " ".join(["word"] * INPUT)
    prompt = Prompt((Message("user", text),), None, output)
    body = spoken.body(prompt, ASKING)
    headers = {"content-type": "application/json"}
    request = httpx.Request("POST", url + spoken.path, headers=headers, content=body)
    sent = request_bytes(request, target(url))
    return [Job(index, sent, Timing(), prompt) for index in range(requests)]


def token_stamp_errors(pairs: Iterable[tuple[Request, Stream]]) -> NDArray[np.int64]:
    """Our time minus the reference server's, for every token of every whole answer, in nanoseconds.

    The reference server takes its time before it hands the bytes to the kernel, so the way through
    the kernel is included.
    """
    each = [r.token_ns - s.sent_ns for r, s in pairs if r.ok and len(r.token_ns) == len(s.sent_ns)]
    return np.concatenate(each) if each else np.empty(0, np.int64)


def microseconds(ns: Iterable[int]) -> dict[str, float]:
    """Median, 99th percentile and maximum in microseconds; zeros without values."""
    values = np.fromiter(ns, np.int64) / 1e3
    ranks = np.percentile(values, (50, 99, 100)) if values.size else np.zeros(3)
    return dict(zip(("p50", "p99", "max"), ranks.tolist(), strict=True))


def shared_stamps(requests: Sequence[Request]) -> float:
    """Share of tokens with the same time as the one before: they were read together, late."""
    together = sum(int((np.diff(r.token_ns) == 0).sum()) for r in requests)
    return together / max(1, sum(len(r.token_ns) for r in requests))


def _id(exchange: Exchange) -> int:
    match = ID.search(exchange.data[:1024])
    return int(match[1]) if match else -1


if __name__ == "__main__":
    main()

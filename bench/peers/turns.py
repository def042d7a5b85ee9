"""One client's turn at one load: what it reported, what is true, what it used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.reference_server.streams import Stream

from peers.actual import Actual, actual, steady_rate
from peers.cases import PeerLoad
from peers.clients import BenchClient, ClientFailed
from peers.processes import machine_cpu, process_cpu_seconds, settle
from peers.reported import Reported
from peers.scoring import errors, truths, wrong


@dataclass(frozen=True)
class ClientTurn:
    """What a client's turn showed.

    errors, truths: in milliseconds, see scoring.py
    cpu_seconds: of the client, from the first request to the last token
    tokens_per_cpu: chunks with tokens per CPU second during the run
    with_parsing: the same, including the time for parsing after the run
    rate, requests_rate: tokens and requests per second, by the server's clock
    other_load: cores that all other processes used
    stolen: cores that the host took away
    """

    client: str
    case: str
    reported: Reported
    true: Actual
    errors: dict[str, float]
    truths: dict[str, float]
    wrong: list[str]
    cpu_seconds: float
    tokens_per_cpu: float
    with_parsing: float
    rate: float
    requests_rate: float
    peak_rss: int
    other_load: float
    stolen: float
    notes: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Noise:
    """What else the machine does during a turn: the work of neither the client, nor the reference
    server, nor this process."""

    def __init__(self, reference: int) -> None:
        self.reference = reference
        self.began = time.monotonic()
        self.before = (*machine_cpu(), self._own_seconds())

    def _own_seconds(self) -> float:
        own = os.times()
        return process_cpu_seconds(self.reference) + own.user + own.system

    def result(self, client: float) -> tuple[float, float]:
        """Cores that others used and that the host took, on average since the start.

        client: the CPU seconds that the client has used
        """
        seconds = time.monotonic() - self.began
        busy, steal = machine_cpu()
        mine = self._own_seconds() - self.before[2] + client
        return max(0.0, busy - self.before[0] - mine) / seconds, (steal - self.before[1]) / seconds


def take_turn(client: BenchClient, case: PeerLoad, reference: ReferenceServer) -> ClientTurn:
    """One run of a client, with its figures, the truth and its costs. Raises ClientFailed."""
    reference.configure(**case.settings)
    reference.reset()
    noise = Noise(reference.pid)
    run = client.run(case, reference.url)
    streams = of_load(reference.dump(), case)
    true = actual(streams)
    other, stolen = noise.result(run.usage.cpu[-1])
    used = run.usage.between(true.began_ns, true.ended_ns)
    span = (true.ended_ns - true.began_ns) / 1e9
    return ClientTurn(
        client=client.name,
        case=case.name,
        reported=run.reported,
        true=true,
        errors=errors(run.reported, true),
        truths=truths(run.reported, true),
        wrong=wrong(run.reported, true),
        cpu_seconds=used,
        tokens_per_cpu=true.sent / used if used else 0.0,
        with_parsing=true.sent / (used + run.parse_seconds) if used else 0.0,
        rate=steady_rate(streams),
        requests_rate=len(streams) / span if span else 0.0,
        peak_rss=run.usage.peak_rss,
        other_load=other,
        stolen=stolen,
        notes=run.notes,
    )


def of_load(streams: list[Stream], case: PeerLoad) -> list[Stream]:
    """The streams that belong to the load: a client's probes and readiness checks are shorter."""
    tokens = min(case.output, case.settings.get("stop_at", case.output))
    return [stream for stream in streams if stream.tokens == tokens]


def take_stamps(case: PeerLoad, reference: ReferenceServer) -> dict[str, Any]:
    """Run our client in-process and compare every token's time with the truth; see stamps.py.

    Raises ClientFailed.
    """
    reference.configure(**case.settings)
    reference.reset()
    noise = Noise(reference.pid)
    load = [str(case.streams), str(case.requests), str(case.output)]
    done = subprocess.run(
        [sys.executable, "-m", "peers.stamps", reference.url, *load],
        capture_output=True,
        text=True,
        timeout=240,
        start_new_session=True,
    )
    if done.returncode:
        raise ClientFailed(f"spark-bench in-process:\n{done.stderr[-1500:]}")
    stamps: dict[str, Any] = json.loads(done.stdout)
    stamps["case"] = case.name
    stamps["other_load"], stamps["stolen"] = noise.result(
        stamps["cpu_seconds"] + stamps["parse_seconds"]
    )
    return stamps


def help_seconds(client: BenchClient) -> float:
    """Wall time of a client's `--help`."""
    began = time.monotonic()
    subprocess.run(
        client.help_command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=client.environment(),
        cwd=Path(client.folder),
        check=True,
        timeout=120,
        preexec_fn=partial(settle, real_time=False),
    )
    return time.monotonic() - began

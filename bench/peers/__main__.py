"""python -m peers [--quick | --cpu] [--no-priority] [--repeats N] [--clients A,B] …"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spark_bench.reference_server.launcher import ReferenceServer

from peers import cases, report
from peers.clients import KINDS, BenchClient, ClientFailed, Forked
from peers.goals import OURS, PeerComparison, cpu_goals, goals
from peers.install import PLACES, install
from peers.processes import CLIENT_CORE, NO_PRIORITY, REFERENCE_CORE, first
from peers.turns import ClientTurn, help_seconds, take_stamps, take_turn


def main() -> None:
    options = _options()
    if sys.platform != "linux" or not {REFERENCE_CORE, CLIENT_CORE} <= os.sched_getaffinity(0):
        sys.exit("make bench-peers: needs Linux, and two cores: 0 for the server, 1 for clients")
    if options.no_priority:
        os.environ[NO_PRIORITY] = "1"  # for the clients, too
    missing = install({kind.package for kind in options.clients})
    os.sched_setaffinity(0, {REFERENCE_CORE})
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-peers-")))
        reference = stack.enter_context(ReferenceServer(core=REFERENCE_CORE, favor=True))
        real_time = first(reference.pid)
        gone = {text.split()[0] for text in missing}
        chosen = [kind for kind in options.clients if kind.package not in gone]
        clients = [stack.enter_context(kind(PLACES, folder)) for kind in chosen]
        ready = [client for client in clients if _ready(client, missing)]
        comparison = compare(ready, reference, options, missing)
    loads = cases.cpu_loads() if options.cpu else cases.accuracy_loads(options.quick)
    points = [case.name for case in loads]
    judged = list(cpu_goals(comparison))
    if not options.cpu:
        judged = goals(comparison, points, cases.COST)
    for part in (
        report.accuracy_table(comparison, points),
        report.stamps_table(comparison, points),
        *(report.cost_table(comparison, case) for case in ([cases.COST], points)[options.cpu]),
        report.ladder_table(comparison),
        report.fault_tables(comparison),
        report.noise_table(comparison),
        report.verdict_table(judged),
        *(f"\nnot measured: {text}" for text in missing),
    ):
        print(part)
    seconds = time.monotonic() - began
    order = "before all other processes" if real_time else "among other processes"
    print(f"\n{options.repeats} rounds {order}, {seconds / 60:.1f} minutes; {options.output}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    written = {
        "seconds": seconds,
        "repeats": options.repeats,
        "real_time": real_time,
        "goals": [asdict(goal) | {"verdict": goal.verdict} for goal in judged],
        "turns": [turn.as_json() for turn in comparison.turns],
        "faults": [turn.as_json() for turn in comparison.faults],
        "stamps": comparison.stamps,
        "ladder": comparison.ladder,
        "help_seconds": comparison.help_seconds,
        "missing": missing,
    }
    options.output.write_text(json.dumps(written, indent=1) + "\n")


def compare(
    clients: Sequence[BenchClient],
    reference: ReferenceServer,
    options: argparse.Namespace,
    missing: list[str],
) -> PeerComparison:
    """Run all rounds: at each load the clients take turns, and each round another one goes first.

    missing: gets a sentence for each turn that failed
    """
    turns: list[ClientTurn] = []
    stamps: list[dict[str, Any]] = []
    ladder: list[dict[str, Any]] = []
    faults: list[ClientTurn] = []
    seconds: dict[str, list[float]] = {client.name: [] for client in clients}
    with_ours = any(client.name == OURS for client in clients)
    for number in range(options.repeats):
        loads = [*cases.accuracy_loads(options.quick), cases.ONE_TOKEN, cases.FIREHOSE]
        for case in cases.cpu_loads() if options.cpu else loads:
            turns += _turns(rotated(clients, number), case, reference, missing)
            if with_ours and case.settings["itl_us"] and not options.cpu:
                stamps += _exact(case, reference, missing)
        if with_ours and not options.cpu:
            for step in cases.ladder_loads(options.quick):
                more = {"round": number, "offered": step.streams * 100}
                ladder += [stamp | more for stamp in _exact(step, reference, missing)]
        for client in clients:
            if client.name == OURS or number == 0:
                seconds[client.name].append(help_seconds(client))
        _say(f"round {number + 1} of {options.repeats} is over")
    for number, case in enumerate(() if options.cpu else cases.FAULTS):
        faults += _turns(rotated(clients, number), case, reference, missing)
    return PeerComparison(turns, stamps, ladder, faults, seconds)


def rotated(clients: Sequence[BenchClient], number: int) -> list[BenchClient]:
    """The clients in the order of a round: each round another one goes first."""
    first = number % len(clients)
    return [*clients[first:], *clients[:first]]


def _turns(
    clients: Sequence[BenchClient],
    case: cases.PeerLoad,
    reference: ReferenceServer,
    missing: list[str],
) -> Iterator[ClientTurn]:
    for client in clients:
        if client.streams and case.streams not in client.streams:
            continue
        try:
            turn = take_turn(client, case, reference)
        except ClientFailed as e:
            missing.append(f"{case.name}: {e}")
            _say(f"{case.name:24} {client.name:14} failed")
            continue
        ttft = turn.errors.get("ttft_mean", float("nan"))
        _say(
            f"{case.name:24} {client.name:14} TTFT {ttft:+9.2f} ms, "
            f"{turn.tokens_per_cpu / 1e3:6.1f} ktok/CPU-s, others {turn.other_load:.2f}, "
            f"stolen {turn.stolen:.2f} {turn.notes}"
        )
        yield turn


def _exact(
    case: cases.PeerLoad, reference: ReferenceServer, missing: list[str]
) -> Iterator[dict[str, Any]]:
    try:
        stamps = take_stamps(case, reference)
    except ClientFailed as e:
        missing.append(f"{case.name}: {e}")
        _say(f"{case.name:24} {OURS} * failed")
        return
    stamp = stamps["stamp_us"]
    _say(
        f"{case.name:24} {OURS} *  time stamps {stamp['p50']:.1f} us, p99 {stamp['p99']:.1f}, "
        f"shared {stamps['shared']:.4f}, others {stamps['other_load']:.2f}"
    )
    yield stamps


def _ready(client: BenchClient, missing: list[str]) -> bool:
    try:
        if isinstance(client, Forked):
            client.ready()
    except ClientFailed as e:
        missing.append(str(e))
        return False
    return True


def chosen_clients(text: str) -> list[type[BenchClient]]:
    """The clients of a comma-separated list. Raises ArgumentTypeError for an unknown name."""
    names = {name.strip() for name in text.split(",")}
    if unknown := names - {kind.name for kind in KINDS}:
        every = ", ".join(kind.name for kind in KINDS)
        raise argparse.ArgumentTypeError(f"no client {', '.join(sorted(unknown))}: give {every}")
    return [kind for kind in KINDS if kind.name in names]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, fewer loads")
    parser.add_argument("--cpu", action="store_true", help="only CPU, at 1 to 256 streams")
    priority = "run the clients as any process runs, not before all others"
    parser.add_argument("--no-priority", action="store_true", help=priority)
    parser.add_argument("--repeats", type=int, default=0, help="rounds (5; with --quick 1)")
    every = ",".join(kind.name for kind in KINDS)
    parser.add_argument("--clients", type=chosen_clients, default=every, help=f"some of: {every}")
    parser.add_argument("--output", type=Path, default=PLACES.peers / "peers.json")
    options = parser.parse_args(words)
    options.repeats = options.repeats or (1 if options.quick else 5)
    return options


if __name__ == "__main__":
    main()

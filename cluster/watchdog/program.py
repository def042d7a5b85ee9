"""A node's watchdog: `python3 -m cluster.watchdog.program CONFIG`, by systemd, as root.

Reads its rank, proves the group (the head's), queries the head (a worker's), decides, acts. What it
decides is in `duties`; what it remembers lies in /run, with what it did and why. Runs on nodes: the
standard library alone, on Python 3.11 and later.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from cluster.watchdog import duties, engine, messages, proof

FOLDER = "/run/spark-watchdog"
HEALTH_SECONDS = 25
QUERY_SECONDS = 2
MOST_EVENTS = 20


@dataclass(frozen=True)
class Config:
    """What a deploy writes for one node.

    + rank: this node's; addresses: of all ranks on the fabric; port: of the head's watchdog
    + floor: bytes of MemAvailable; 0: none
    + load: seconds that a group may take to get ready
    """

    group: str
    rank: int
    addresses: tuple[str, ...]
    port: int
    floor: int
    load: int


@dataclass(frozen=True)
class Pace:
    """Seconds between looks at memory, at the rank, and between proofs; where files lie.

    + metrics: the folder of node_exporter's textfile collector, of all groups
    """

    memory: float = 1
    look: float = 5
    prove: float = 30
    folder: str = FOLDER
    leases: tuple[str, ...] = engine.LEASES
    meminfo: str = "/proc/meminfo"
    metrics: str = "/run/spark-monitoring"


def read_config(path: str) -> Config:
    """The configuration; ValueError where it is none."""
    values = json.loads(Path(path).read_text())
    names = {each.name for each in fields(Config)}
    if not isinstance(values, dict) or values.keys() != names:
        raise ValueError(f"{path} must have exactly: {', '.join(sorted(names))}")
    return Config(**{**values, "addresses": tuple(values["addresses"])})


@dataclass
class Watchdog:
    """One node's watchdog. Threads prove, query, answer, and look at memory; `step` decides on the
    group and acts.

    + container: the rank as Docker has it; None: none, or Docker did not answer (`trouble`)
    + latest: the rank as Docker last had it, for where memory runs out and Docker does not answer
    + counts: what for (`RankAction.key`) → how often it acted, since the node's boot
    + proved: the life of rank 0 that `progress` is about
    + deaf: why it can't answer workers; "" where it can, or nothing is known yet
    """

    config: Config
    docker: engine.Docker = field(default_factory=engine.Docker)
    pace: Pace = field(default_factory=Pace)
    container: engine.RankContainer | None = None
    latest: engine.RankContainer | None = None
    head: duties.HeadState = field(default_factory=lambda: duties.HeadState(0, 0.0))
    worker: duties.WorkerState = field(default_factory=duties.WorkerState)
    low: duties.FloorState = field(default_factory=duties.FloorState)
    fallen: duties.FallenState = field(default_factory=duties.FallenState)
    counts: dict[str, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    reports: dict[int, tuple[float, duties.RankReport]] = field(default_factory=dict)
    proofs: list[duties.Proof] = field(default_factory=list)
    answers: list[duties.HeadAnswer | bool] = field(default_factory=list)
    progress: proof.TokenProgress = field(default_factory=proof.TokenProgress)
    lock: threading.Lock = field(default_factory=threading.Lock)
    writing: threading.Lock = field(default_factory=threading.Lock)
    looked: float = -1e9
    duty: str = ""
    why: str = ""
    trouble: str = ""
    deaf: str = ""
    proved: str = ""

    def __post_init__(self) -> None:
        now = time.monotonic()
        self.limits = duties.WatchLimits(load=self.config.load)
        self.head = duties.HeadState(secrets.randbelow(messages.FIRST), now)
        self.file = Path(self.pace.folder, f"{self.config.group}.json")
        self.remember()

    # ---- what it remembers

    def remember(self) -> None:
        """Take over what the watchdog before this one left, in the same life of the node."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            left = json.loads(self.file.read_text())
            head, ends, low = left["head"], left["worker"]["ends"], left["low"]["ends"]
            # Watchdogs that did not keep it came before.
            starts = left.get("fallen", {}).get("starts", ())
            self.head = replace(
                self.head,
                generation=int(head["generation"]),
                begun=float(head["begun"]),
                served=str(head["served"]),
                restarts=tuple(map(float, head["restarts"])),
                tries=int(head["tries"]),
            )
            self.worker = replace(self.worker, ends=tuple(map(float, ends)))
            self.low = replace(self.low, ends=tuple(map(float, low)))
            self.fallen = replace(self.fallen, starts=tuple(map(float, starts)))
            self.events = list(left["events"])[-MOST_EVENTS:]
            self.counts = {str(key): int(n) for key, n in left["counts"].items()}

    def save(self) -> None:
        """Write what it remembers, for status and for the watchdog after this one."""
        document = {
            "group": self.config.group,
            "rank": self.config.rank,
            "at": time.time(),
            "duty": self.duty,
            "why": self.why,
            "head": asdict(self.head),
            "worker": asdict(self.worker),
            "low": asdict(self.low),
            "fallen": asdict(self.fallen),
            "counts": self.counts,
            "events": self.events,
        }
        metrics = Path(self.pace.metrics, self.config.group, "watchdog.prom")
        with self.writing:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                _replace(self.file, json.dumps(document))
            except OSError as e:
                print(f"{self.file} could not be written: {e}", flush=True)
            # Without monitoring there is no such folder.
            with suppress(OSError):
                _replace(metrics, self.metrics())

    def metrics(self) -> str:
        """How it is and what it did, for node_exporter."""
        ends = "".join(
            f'spark_watchdog_actions_total{{key="{key}"}} {self.counts.get(key, 0)}\n'
            for key in get_args(duties.ActionKey)
        )
        return (
            f"# TYPE spark_watchdog_actions_total counter\n{ends}"
            f'# TYPE spark_watchdog_duty gauge\nspark_watchdog_duty{{duty="{self.duty}"}} 1\n'
            "# TYPE spark_watchdog_timestamp_seconds gauge\n"
            f"spark_watchdog_timestamp_seconds {time.time():.0f}\n"
        )

    # ---- one step

    def step(self) -> None:
        """Look at the rank where it is due; decide, and act."""
        now = time.monotonic()
        if now - self.looked >= self.pace.look:
            self.looked = now
            try:
                self.container = self.docker.find_rank(self.config.group, self.config.rank)
                self.latest, self.trouble = self.container, ""
            except engine.Unreadable as e:
                if not self.trouble:
                    print(e, flush=True)
                self.container, self.trouble = None, str(e)
            self.decide(now)
            self.save()

    def decide(self, now: float) -> None:
        own = self.container.own if self.container else None
        if self.config.rank:
            with self.lock:
                answered, self.answers = self.answers, []
            answer = answered[-1] if answered else None
            view = duties.WorkerView(
                own,
                answer=answer if isinstance(answer, duties.HeadAnswer) else None,
                silent=None if answer is None else answer is False,
            )
            worker, action = duties.decide_worker(self.worker, view, now, self.limits)
            held = worker.wish == "hold"
            self.show(worker.duty, self.trouble or worker.why)
            done = self.act(action, self.container, armed=True)
            # Only now: no report may name a new generation and the life before it.
            self.worker = worker if done else duties.note_not_ended(worker, self.worker)
        else:
            with self.lock:
                proofs, self.proofs = self.proofs, []
                fresh = {
                    rank: report
                    for rank, (at, report) in self.reports.items()
                    if now - at < self.limits.silent
                }
            head = duties.HeadView(
                own,
                held=engine.lease_held(self.config.group, self.pace.leases),
                address=engine.has_address(self.config.addresses[0]),
                proof=proofs[-1] if proofs else None,
                workers=fresh,
                trouble=self.trouble,
            )
            state, action = duties.decide_head(self.head, head, now, self.limits)
            with self.lock:
                self.head = state
            held = state.duty in ("held", "off", "no address")
            self.show(state.duty, "; ".join(filter(None, (self.deaf, self.trouble or state.why))))
            self.act(action, self.container, armed=True)
        self.fallen, start = duties.decide_start(self.fallen, own, now, self.limits, held=held)
        self.act(start, self.container, armed=True)

    def keep_floor(self) -> None:
        """Look at memory; in a thread of its own, for Docker may take long to answer."""
        now = time.monotonic()
        available = engine.memory_available(self.pace.meminfo) if self.config.floor else None
        missing = self.config.floor - available if available is not None else 0
        rank = self.latest
        own = rank.own if rank else None
        self.low, action = duties.decide_floor(self.low, own, missing, now, self.limits)
        if action.kind != "none":
            self.act(action, rank, armed=False)
            self.save()

    def act(
        self, action: duties.RankAction, rank: engine.RankContainer | None, *, armed: bool
    ) -> bool:
        """Do it, unless a deploy has begun meanwhile; note what was done, and why. Returns whether
        it was done.

        A restart of the group is what the head's answers bring about; rank 0's end in it, noted
        only where it fails, may come by itself before.
        """
        if action.kind == "none" or rank is None:
            return True
        if armed and engine.lease_held(self.config.group, self.pace.leases):
            return False
        failed = ""
        if action.kind == "end":
            failed = self.docker.end(rank, armed=armed)
        elif action.kind == "stop":
            failed = self.docker.stop(rank)
            if failed:
                # Docker may hang for lack of the very memory.
                why = f"{action.why}; it could not be stopped: {failed}"
                action = replace(action, kind="end", why=why)
                failed = self.docker.end(rank, armed=False)
        elif action.kind == "start":
            failed = self.docker.start(rank)
        event = {
            "at": time.time(),
            "what": action.kind,
            "key": action.key,
            "why": action.why,
            "failed": failed,
        }
        with self.lock:
            if action.key or failed:
                self.events = [*self.events, event][-MOST_EVENTS:]
            if action.key and not failed:
                self.counts[action.key] = self.counts.get(action.key, 0) + 1
        what = "the group" if action.kind == "restart" else f"rank {self.config.rank}"
        verb = {"restart": "restarted", "end": "ended", "stop": "stopped", "start": "started"}
        done = f"could not be {verb[action.kind]}: {failed}" if failed else verb[action.kind]
        print(f"{what} {done}: {action.why}", flush=True)
        if failed:
            return False
        with self.lock:
            container = self.container
            if action.kind == "end" and container and container.own.life == rank.own.life:
                # Until it is looked at again, no report may name the life that has ended.
                ended = replace(container.own, life="", age=0.0)
                self.container = replace(container, own=ended)
        self.looked = -1e9
        return True

    def show(self, duty: str, why: str) -> None:
        if duty != self.duty or (duty == "no address" and why != self.why):
            print(f"{duty}{f': {why}' if why else ''}", flush=True)
        self.duty, self.why = duty, why

    # ---- the head's threads

    def prove(self) -> None:
        """Prove once that the group serves."""
        rank = self.container
        if rank is None or not rank.own.on_duty or not rank.own.life:
            return
        if rank.own.life != self.proved:
            self.proved, self.progress = rank.own.life, proof.TokenProgress()
        why = self.failure(rank)
        with self.lock:
            self.proofs.append(duties.Proof(rank.own.life, why))

    def failure(self, rank: engine.RankContainer) -> str:
        """What fails; "" where the group serves."""
        own = "127.0.0.1" if rank.host == "0.0.0.0" else rank.host
        statuses: dict[int, int] = {}

        def ask(number: int, host: str) -> None:
            statuses[number] = engine.fetch((host, rank.port), "/health", HEALTH_SECONDS, None, "")[
                0
            ]

        hosts = [own, *self.config.addresses[1:]]
        threads = [threading.Thread(target=ask, args=each) for each in enumerate(hosts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if why := proof.wrong_health(statuses):
            return why
        key, at = engine.read_key(rank.key), (own, rank.port)
        if key and (why := engine.distrust(*at)):
            return f"the API's key is not sent: {why}"
        models = engine.fetch(at, "/v1/models", HEALTH_SECONDS, None, key)
        if why := proof.wrong_models(*models, rank.model):
            return why
        load = None
        if rank.metrics:
            text = engine.fetch(at, "/metrics", HEALTH_SECONDS, None, "")[1]
            load = proof.parse_load(text)
        now = time.monotonic()
        if load is not None:
            self.progress = proof.note_load(self.progress, load, now)
            if why := proof.stands_still(self.progress, load, now):
                return why
        if not proof.needs_completion(self.progress, load, now):
            return ""
        body = {"model": rank.model, "prompt": "1", "max_tokens": 1, "temperature": 0}
        reply = engine.fetch(at, "/v1/completions", proof.COMPLETION_SECONDS, body, key)
        why = proof.wrong_completion(*reply)
        if not why:
            self.progress = replace(self.progress, moved=time.monotonic())
        return why

    def answer_workers(self) -> None:
        """Answer workers at the fabric address, once it is there; until that socket fails."""
        at = (self.config.addresses[0], self.config.port)
        try:
            server = socket.create_server(at, backlog=16)
        except OSError as e:
            taken = f"workers get no answer: watchdog_port {at[1]} is in use on {at[0]}"
            before, self.deaf = self.deaf, taken if e.errno == errno.EADDRINUSE else ""
            if self.deaf not in (before, ""):
                print(self.deaf, flush=True)
            raise
        self.deaf = ""
        with server:
            while True:
                connection, (address, _) = server.accept()
                with connection, suppress(OSError):
                    connection.settimeout(QUERY_SECONDS)
                    self.answer_one(connection, address)

    def answer_one(self, connection: socket.socket, address: str) -> None:
        if address not in self.config.addresses:
            return
        parsed = messages.parse_report(_receive(connection), len(self.config.addresses))
        if parsed is None or self.config.addresses[parsed[0]] != address:
            return
        rank, report = parsed
        held, now = engine.lease_held(self.config.group, self.pace.leases), time.monotonic()
        with self.lock:
            self.reports[rank] = (now, report)
            answer = self.head.answer(now, self.limits, held=held)
        connection.sendall(messages.dump_answer(answer))

    # ---- the worker's thread

    def query(self) -> None:
        """Query the head once; not before its own rank has been looked at."""
        if not self.duty:
            return
        with self.lock:
            rank, generation = self.container, self.worker.generation or 0
        own = rank.own if rank else None
        report = duties.RankReport(
            generation=generation,
            life=own.life if own else "",
            # Docker that does not answer is no intended stop.
            on_duty=own.on_duty if own else bool(self.trouble),
        )
        answer = self.exchange(messages.dump_report(self.config.rank, report))
        alive = answer is not None
        if answer is None and rank:
            at = (self.config.addresses[0], rank.port)
            alive = engine.fetch(at, "/health", HEALTH_SECONDS, None, "")[0] == 200
        with self.lock:
            self.answers.append(answer if answer is not None else alive)

    def exchange(self, report: bytes) -> duties.HeadAnswer | None:
        own, head = self.config.addresses[self.config.rank], self.config.addresses[0]
        try:
            with socket.create_connection(
                (head, self.config.port), QUERY_SECONDS, source_address=(own, 0)
            ) as connection:
                connection.settimeout(QUERY_SECONDS)
                connection.sendall(report)
                connection.shutdown(socket.SHUT_WR)
                return messages.parse_answer(_receive(connection))
        except OSError:
            return None

    # ---- for ever

    def threads(self) -> list[threading.Thread]:
        """Those that run beside `step`."""
        if self.config.rank:
            tasks = [(self.query, self.pace.look)]
        elif len(self.config.addresses) > 1:
            tasks = [(self.prove, self.pace.prove), (self.answer_workers, self.pace.look)]
        else:
            tasks = [(self.prove, self.pace.prove)]
        tasks.append((self.keep_floor, self.pace.memory))
        return [threading.Thread(target=_repeat, args=task, daemon=True) for task in tasks]

    def run(self) -> None:
        """For ever; until a thread ends, and systemd starts another watchdog."""
        engine.stay_in_memory()
        # The first proof needs a rank that has been looked at.
        self.step()
        threads = self.threads()
        for thread in threads:
            thread.start()
        notify("READY=1")
        while all(thread.is_alive() for thread in threads):
            self.step()
            notify("WATCHDOG=1")
            time.sleep(self.pace.memory)


def _replace(file: Path, text: str) -> None:
    """Write a file whole: who reads it never sees a part."""
    part = file.with_suffix(".part")
    part.write_text(text)
    part.rename(file)


def _repeat(task: Callable[[], None], seconds: float) -> None:
    """Run a task at this interval; if it takes longer, run it again as soon as it has ended."""
    while True:
        begun = time.monotonic()
        with suppress(OSError):
            task()
        time.sleep(max(0.2, begun + seconds - time.monotonic()))


def _receive(connection: socket.socket) -> bytes:
    """All that the other side sends until it closes, or one byte more than a message may have."""
    data, end = b"", time.monotonic() + QUERY_SECONDS
    while len(data) <= messages.MOST and time.monotonic() < end:
        part = connection.recv(messages.MOST + 1 - len(data))
        if not part:
            break
        data += part
    return data


def notify(words: str) -> None:
    """Tell systemd, where it started us."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to, suppress(OSError):
            to.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            to.send(words.encode())


if __name__ == "__main__":
    Watchdog(read_config(sys.argv[1])).run()

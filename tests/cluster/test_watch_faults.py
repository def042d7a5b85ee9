"""The table of faults: what each does to a group that is watched, which alert fires, what the
watchdogs do, and how many seconds pass until it serves again. `make watch-faults` writes it.

Real Prometheus, Alertmanager and node_exporter, the watchdogs with their real times, a stub engine
that loads in a second: what a model takes to load comes on top.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matrix
import pytest
import watch_images
from deploying import HEAD, MODEL, WORKER, Deploy, lives
from spark_node import Node
from sparks import ROOT, Cluster
from watchdogs import CLEAN, PROGRAM, UNIT, journal, strike, wait_for, written

IMAGES = ("prom/prometheus:debian", "prom/alertmanager:debian", "prom/node-exporter:debian")
MONITORING: dict[str, Any] = {
    "program": "deploys/monitoring.py",
    "prometheus_image": IMAGES[0],
    "alertmanager_image": IMAGES[1],
    "node_exporter_image": IMAGES[2],
}
PARTS = "sglang-node-exporter sglang-alertmanager sglang-prometheus"
CLEAN_MONITORING = f"""
systemctl disable --now spark-monitoring-sglang.timer
docker rm -f {PARTS}
docker volume rm sglang-prometheus sglang-alertmanager
rm -rf /run/spark-monitoring /usr/local/lib/spark-monitoring*
mount --make-private /
"""
FORGET = """
docker stop sglang-prometheus sglang-alertmanager
rm -rf /var/lib/docker/volumes/sglang-prometheus/_data/*
docker start sglang-prometheus sglang-alertmanager
"""
# Of all rows that were ever measured here, for the table.
RESULTS = ROOT / ".cache" / "watch-faults.json"
DOCUMENT = ROOT / "docs" / "watchdog.md"
BEGIN, END = "<!-- make watch-faults -->\n", "<!-- end -->\n"
# Seconds that a row is watched for alerts once the group serves: two scrapes, a rule's turn.
AFTER = 60
COMPLETION = {"model": MODEL, "prompt": "1", "max_tokens": 1, "temperature": 0}


@dataclass(frozen=True)
class Fault:
    """A row.

    + act: what strikes; returns when the fault began, None: when it returns
    + heal: what puts it right, `lasts` seconds later; None: the watchdogs alone do, or nobody need
    + again: whether the group has to serve with other ranks than before; None: it serves no more
    + watch: seconds that it is watched at least, for alerts
    + limit: seconds until the group has to serve again
    """

    act: Callable[[Cluster], float | None]
    heal: Callable[[Cluster], object] | None = None
    lasts: float = 0
    again: bool | None = True
    watch: float = 0
    limit: float = 300


def hang_worker(cluster: Cluster) -> None:
    strike(cluster, 2, WORKER, "STOP")


def request(cluster: Cluster) -> None:
    """A request that rank 0 never answers, and then none any more."""
    pool = ThreadPoolExecutor(1)
    pool.submit(cluster.http, "/v1/completions", COMPLETION, timeout=550)
    time.sleep(1)
    pool.shutdown(wait=False)


def freeze_metrics(cluster: Cluster) -> None:
    strike(cluster, 1, HEAD, "USR2")
    request(cluster)


def memory(gigabytes: float) -> Callable[[Cluster], None]:
    """Have node 2 say that so much is available; the memory of this machine is not touched."""

    def act(cluster: Cluster) -> None:
        file = cluster.state / "spark-02" / "meminfo"
        lines = file.read_text().splitlines(keepends=True)
        now = f"MemAvailable: {gigabytes * 1e6:.0f} kB\n"
        file.write_text("".join(now if x.startswith("MemAvailable") else x for x in lines))

    return act


def eat_memory_once(cluster: Cluster) -> float:
    """Until the rank has ended: it gives back what it took."""
    before, begun = lives(cluster, (2,)), time.time()
    memory(1.2)(cluster)
    until = time.monotonic() + 60
    with suppress(AssertionError):
        while lives(cluster, (2,)) == before and time.monotonic() < until:
            time.sleep(0.2)
    memory(120)(cluster)
    return begun


def cycle_power(cluster: Cluster) -> float:
    """Both at once; the fault is counted from when they have power again."""
    for number in (1, 2):
        cluster.off(number)
    begun = time.time()
    cluster.each(lambda node: boot(cluster, node.number))
    return begun


def boot(cluster: Cluster, number: int) -> None:
    cluster.on(number)
    # As systemd has a machine's root; in a container, as here, it leaves it private.
    cluster.node(number).run(f"mount --make-shared /; docker start {PARTS}", check=False)


LATE = """[Unit]
Before=docker.service
[Service]
Type=oneshot
ExecStart=/usr/sbin/ip addr flush dev enp1s0f1np1
[Install]
WantedBy=multi-user.target
"""


def cycle_power_without_addresses(cluster: Cluster) -> float:
    for node in cluster.nodes.values():
        (node.root / "etc/systemd/system/late.service").write_text(LATE)
        node.run("systemctl enable -q late")
    return cycle_power(cluster)


def bring_addresses(cluster: Cluster) -> None:
    for number in (1, 2):
        cluster.tb("net", number)
        cluster.node(number).run("systemctl disable -q late; rm /etc/systemd/system/late.service")


def kill_dockerd(*numbers: int) -> Callable[[Cluster], None]:
    def act(cluster: Cluster) -> None:
        for number in numbers:
            cluster.node(number).run("kill -9 $(cat /run/docker.pid)")

    return act


def end_watchdog(sent: str) -> Callable[[Cluster], None]:
    def act(cluster: Cluster) -> None:
        cluster.node(1).run(f"kill -{sent} $(systemctl show -p MainPID --value {UNIT})")

    return act


COUNTERS = """
at=/sys/class/infiniband; i=0
while sleep 1; do i=$((i+1))
  for hca in rocep1s0f1 $([ -e /run/half-down ] || echo roceP2p1s0f1); do
    for c in rcv xmit; do echo $((i*7500000)) >$at/$hca/ports/1/counters/port_${c}_data; done
  done
done
"""


def half_down(cluster: Cluster) -> None:
    """Both halves carry 30 MB/s each way, then one does not."""
    for node in cluster.nodes.values():
        (node.root / "run/counters").write_text(COUNTERS)
        node.run("systemd-run -q --unit=counters bash /run/counters")
    time.sleep(60)
    cluster.link(2, "q1b", "down")
    cluster.each(lambda node: node.run("touch /run/half-down"))


def half_up(cluster: Cluster) -> None:
    cluster.link(2, "q1b", "up")
    cluster.each(lambda node: node.run("systemctl stop counters; rm /run/half-down /run/counters"))


def clock(utilization: int, megahertz: int) -> Callable[[Cluster], None]:
    """What nvidia-smi says on node 2: at work a GB10 has 2400 MHz, held down 500 to 850."""
    busy = f's/echo "[0-9]* %"/echo "{utilization} %"/'
    slow = f's/\\(clocks.sm) echo "\\)[0-9]*/\\1{megahertz}/'
    words = f"sed -i '{busy}; {slow}' /usr/local/bin/nvidia-smi"

    def act(cluster: Cluster) -> None:
        cluster.node(2).run(words)

    return act


def fill_disk(cluster: Cluster) -> None:
    matrix.fill_disk(matrix.Scene(Deploy(cluster, Path()), 1))


def empty_disk(cluster: Cluster) -> None:
    cluster.node(1).run("rm /var/tmp/filler")
    disk = cluster.state / "spark-01" / "disk"
    subprocess.run(["mount", "-o", "remount,size=500g", str(disk)], check=True)


FAULTS = {
    "a worker's rank hangs (SIGSTOP)": Fault(hang_worker),
    "rank 0 hangs (SIGSTOP)": Fault(lambda c: strike(c, 1, HEAD, "STOP")),
    "rank 0's scheduler dies, its HTTP lives, `/health` is 503": Fault(
        lambda c: strike(c, 1, HEAD, "USR1")
    ),
    "the same, `/health` stays 200, no requests": Fault(
        lambda c: strike(c, 1, HEAD, "USR2"), limit=900
    ),
    "the same, `/health` stays 200, `/metrics` frozen with a request in work": Fault(
        freeze_metrics, limit=700
    ),
    "a worker's memory is eaten by its rank": Fault(eat_memory_once),
    "a worker's memory is eaten by something else, for 150 s": Fault(
        memory(1.2), memory(120), 150, again=None
    ),
    "both nodes are power-cycled": Fault(cycle_power),
    "the same, and the fabric's addresses come 60 s late": Fault(
        cycle_power_without_addresses, bring_addresses, 60
    ),
    "dockerd is killed on the worker": Fault(kill_dockerd(2)),
    "dockerd is killed on both nodes": Fault(kill_dockerd(1, 2), limit=400),
    "the fabric is cut for 180 s": Fault(
        lambda c: c.link(2, "q1", "down"), lambda c: c.link(2, "q1", "up"), 180, limit=600
    ),
    "one half of the cable is down": Fault(half_down, half_up, 330, again=False, watch=330),
    "a GPU's clock is held down": Fault(clock(96, 851), clock(0, 208), 270, again=False, watch=270),
    "the head's watchdog is killed": Fault(end_watchdog("KILL"), again=False, watch=20),
    "the head's watchdog hangs (SIGSTOP)": Fault(end_watchdog("STOP"), again=False, watch=150),
    "the disk of Prometheus is full for 150 s": Fault(
        fill_disk, empty_disk, 150, again=False, watch=180
    ),
}


@pytest.fixture(scope="module", autouse=True)
def as_before(testbed: Cluster) -> Iterator[None]:
    yield
    testbed.changed = True
    testbed.each(lambda node: node.run(CLEAN + CLEAN_MONITORING, check=False))


def watch(served: Deploy) -> Cluster:
    """Have the group watched by new watchdogs, and scraped, and no alert of the row before."""
    cluster = served.cluster
    cluster.each(lambda node: node.run("mount --make-shared /"))
    for reference in set(IMAGES) - cluster.node(1).images().keys():
        cluster.node(1).load(watch_images.tar(reference))
    for program in (MONITORING, {"program": PROGRAM}):
        served.succeeds(**program)
    # Restarts count for an hour, the next waits longer, and an alert looks back for 15 minutes.
    cluster.node(1).run(FORGET)
    for node in cluster.nodes.values():
        node.run(f"systemctl stop {UNIT}; rm -rf /run/spark-watchdog; systemctl start {UNIT}")
    wait_for(cluster, "serving", seconds=90)
    wait_for(cluster, "following", 2)
    until = time.monotonic() + 400
    wanted = {"up==1": 6, "spark_watchdog_duty": 2}
    while firing(cluster) or {query: series(cluster, query) for query in wanted} != wanted:
        assert time.monotonic() < until, firing(cluster)
        time.sleep(3)
    return cluster


@pytest.mark.faults
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_heals(served: Deploy, name: str) -> None:
    cluster, fault = watch(served), FAULTS[name]
    before, begun = lives(cluster), time.time()
    struck = fault.act(cluster) or time.time()
    alerts: dict[str, float] = {}
    again: float | None = None
    gaps, healed = 0.0, fault.heal is None
    while again is None or time.time() < max(struck + fault.watch, again + AFTER):
        now = time.time()
        assert now < struck + fault.lasts + fault.limit, journal(cluster)
        if not healed and now >= struck + fault.lasts:
            assert fault.heal
            fault.heal(cluster)
            healed = True
        for alert in firing(cluster):
            alerts.setdefault(alert, time.time() - struck)
        fine = answers(cluster)
        if fault.again is False:
            gaps += 0 if fine else time.time() - now
            assert lives(cluster) == before
        if fault.again is None:
            again = again or (now if healed else None)
        elif not fine:
            # A group that served only for a moment has not healed.
            again = None if fault.again else again
        elif again is None and healed and (not fault.again or renewed(cluster, before)):
            again = now
        time.sleep(1)
    done = [
        (event["at"] - struck, node.name, event)
        for node in cluster.nodes.values()
        for event in written(cluster, node.number).get("events", [])
        if event["at"] > begun
    ]
    served_again = "never" if fault.again is None else f"{again - struck:.0f} s"
    if fault.again is False:
        served_again = f"did not answer for {gaps:.0f} s" if gaps else "served throughout"
    note(name, alerts, sorted(done, key=lambda each: each[0]), served_again)


@pytest.mark.faults
def test_overhead_at_rest(served: Deploy) -> None:
    """CPU and memory of each part over two minutes in which nothing is requested."""
    cluster, names = watch(served), ("python3", "node_exporter", "prometheus", "alertmanager")
    before = cluster.each(usage)
    time.sleep(120)
    after = cluster.each(usage)
    for node, old, new in zip(cluster.nodes.values(), before, after, strict=True):
        for name, (ticks, memory) in new.items():
            share = (ticks - old[name][0]) / os.sysconf("SC_CLK_TCK") / 120
            print(f"{node.name} {name}: {share:.2%} of a core, {memory / 1024:.1f} MB")
    ours = [each for node in after for name, each in node.items() if name in names[:2]]
    assert sum(memory for _, memory in ours) < 2 * 100 * 1024


def usage(node: Node) -> dict[str, tuple[int, int]]:
    """Name → clock ticks of CPU, kB of memory (proportional to those who share it)."""
    script = """
    for p in $(pgrep -x node_exporter) $(pgrep -x prometheus) $(pgrep -x alertmanager) @DOG@; do
      read -r _ name _ < /proc/$p/stat; set -- $(sed 's/.*) //' /proc/$p/stat)
      echo "$name" $((${12} + ${13})) $(awk '/^Pss:/{print $2}' /proc/$p/smaps_rollup)
    done""".replace("@DOG@", f"$(systemctl show -p MainPID --value {UNIT})")
    lines = [line.split() for line in node.run(script).stdout.splitlines()]
    return {name.strip("()"): (int(ticks), int(memory)) for name, ticks, memory in lines}


def api(cluster: Cluster, url: str) -> Any:
    """The JSON at an address of the head's own; None where none came."""
    done = cluster.ctl("curl", "-s", "-m", "3", url, on=1)
    with suppress(ValueError):
        return json.loads(done.stdout)
    return None


def firing(cluster: Cluster) -> set[str]:
    """Alerts that Alertmanager has; the dead-man's left out."""
    active = api(cluster, "http://127.0.0.1:9093/api/v2/alerts?active=true") or []
    return {alert["labels"]["alertname"] for alert in active} - {"watching"}


def series(cluster: Cluster, query: str) -> int:
    """How many series Prometheus answers with."""
    answer = api(cluster, f"http://127.0.0.1:9090/api/v1/query?query={query}") or {}
    return len(answer.get("data", {}).get("result", []))


def answers(cluster: Cluster) -> bool:
    """Whether the group serves, as far as that shows without a request."""
    with suppress(AssertionError, KeyError):
        return (
            cluster.http("/health").status == 200 and cluster.http("/health", node=2).status == 200
        )
    return False


def renewed(cluster: Cluster, before: list[tuple[str, str]]) -> bool:
    """Whether all ranks are others than before, and one completion comes."""
    with suppress(AssertionError):
        now = lives(cluster)
        other = all(a != b for a, b in zip(before, now, strict=True))
        return other and cluster.http("/v1/completions", COMPLETION).status == 200
    return False


# ---- the table


def note(
    name: str, alerts: dict[str, float], done: list[tuple[float, str, Any]], again: str
) -> None:
    """Keep a row, and have the document show all that are kept, where that is wanted."""
    fired = ", ".join(f"`{alert}` after {at:.0f} s" for alert, at in alerts.items())
    verbs = {
        "restart": "restarts the group",
        "end": "ends its rank",
        "stop": "stops its rank",
        "start": "starts its rank",
    }
    acts = "; ".join(
        f"{at:.0f} s: {node} {verbs[event['what']]}" + (" (failed)" if event["failed"] else "")
        for at, node, event in done
    )
    with RESULTS.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        rows = json.loads(RESULTS.read_text() or "{}")
        rows[name] = [fired or "none", acts or "nothing", again]
        RESULTS.write_text(json.dumps(rows, indent=1))
        if os.environ.get("WATCH_FAULTS") == "write":
            before, _, rest = DOCUMENT.read_text().partition(BEGIN)
            _, _, after = rest.partition(END)
            DOCUMENT.write_text(before + BEGIN + table(rows) + END + after)


def table(rows: dict[str, list[str]]) -> str:
    head = "| fault | alerts | what the watchdogs did | serves again |\n| --- | --- | --- | --- |\n"
    lines = [f"| {name} | {' | '.join(rows[name])} |\n" for name in FAULTS if name in rows]
    return head + "".join(lines)

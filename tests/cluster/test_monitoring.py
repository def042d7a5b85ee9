"""deploys/monitoring.py on the simulated cluster, with Debian's Prometheus and node_exporter."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import watch_images
from clusterctl import Tool
from deploying import MODEL, Deploy, lives
from sparks import Cluster

from cluster.monitoring.boards import boards

# deploys/monitoring.py, with seconds instead of quarters of a minute.
PROGRAM = """\
from runpy import run_path
from cluster.monitoring import metrics_timer, scrape
scrape.INTERVAL = metrics_timer.EVERY = 2
run_path("deploys/monitoring.py")
"""
PROMETHEUS, ALERTMANAGER, EXPORTER = IMAGES = (
    *("prom/prometheus:debian", "prom/alertmanager:debian"),
    "prom/node-exporter:debian",
)
DATA = {
    "prometheus_image": PROMETHEUS,
    "alertmanager_image": ALERTMANAGER,
    "node_exporter_image": EXPORTER,
}
SECRET = "http://127.0.0.1:8099/hook-d41d8cd9"
# Another image under the same tag, at its registry too.
MOVE = f"""
id=$(docker create {ALERTMANAGER}) && docker commit -c 'LABEL moved=1' $id {ALERTMANAGER} &&
docker push -q {ALERTMANAGER} && docker rm $id
"""
CLEAN = """
systemctl disable --now spark-monitoring-sglang.timer
docker rm -f sglang-prometheus sglang-alertmanager sglang-node-exporter
docker volume rm sglang-prometheus sglang-alertmanager
rm -rf /run/spark-monitoring
mount --make-private /
"""


@pytest.fixture(autouse=True)
def as_before(testbed: Cluster) -> Iterator[None]:
    # As systemd has a machine's root; in a container, as here, it leaves it private.
    testbed.each(lambda node: node.run("mount --make-shared /"))
    yield
    testbed.changed = True
    testbed.each(lambda node: node.run(CLEAN, check=False))


def query(cluster: Cluster, expression: str) -> list[dict[str, Any]]:
    """The series that Prometheus answers with on the head; [] where it does not."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}"
    answer = cluster.node(1).run(f"curl -s -m 5 '{url}'", check=False).stdout
    series: list[dict[str, Any]] = json.loads(answer or "{}").get("data", {}).get("result", [])
    return series


def wait(what: Callable[[], bool], problem: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, problem()
        time.sleep(0.5)


def wait_for(cluster: Cluster, expression: str, count: int) -> list[dict[str, Any]]:
    """The series that Prometheus answers with, once there are so many."""
    series: list[dict[str, Any]] = []

    def complete() -> bool:
        series[:] = query(cluster, expression)
        return len(series) == count

    wait(complete, lambda: f"{expression}: {[s['metric'] for s in series]}")
    return series


def every_panel_has_data(cluster: Cluster) -> None:
    """Each of its queries, for each node, is answered with numbers while the group generates."""
    missing = {
        target["expr"].replace("$group", "sglang").replace("$node", node)
        for board in boards().values()
        for panel in board["panels"]
        for target in panel.get("targets", ())
        for node in ("spark-01", "spark-02")
    }
    assert len(missing) > 30
    question = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}

    def complete() -> bool:
        assert cluster.http("/v1/chat/completions", question).status == 200
        for expression in sorted(missing):
            values = [series["value"][1] for series in query(cluster, expression)]
            if values and "NaN" not in values:
                missing.discard(expression)
        return not missing

    wait(complete, lambda: sorted(missing))


def ids(cluster: Cluster, number: int = 1) -> dict[str, str]:
    return {c["Name"].lstrip("/"): c["Id"] for c in cluster.node(number).containers()}


def reached(cluster: Cluster, at: str, on: int = 0) -> bool:
    return cluster.ctl("curl", "-s", "-m", "3", f"http://{at}/metrics", on=on).returncode == 0


def test_prometheus_and_exporters_from_nothing_to_absent(served: Deploy, tmp_path: Path) -> None:
    cluster, ranks = served.cluster, lives(served.cluster)
    head, worker = cluster.node(1), cluster.node(2)
    for reference in IMAGES:
        head.load(watch_images.tar(reference))
    head.run(f"docker push -q {ALERTMANAGER}")
    program = tmp_path / "monitoring.py"
    program.write_text(PROGRAM)
    watched: dict[str, Any] = {**DATA, "program": str(program)}

    # the worker's image comes from the head: no registry has it
    output = served.succeeds(**watched)
    assert "alert_receiver is not set: nobody is notified" in output
    assert f"[spark-02] {EXPORTER} is being copied from spark-01 over 169.254.1.1" in output
    assert PROMETHEUS not in worker.images()
    assert "sglang-prometheus answers at http://127.0.0.1:9090/-/ready" in output
    up = {
        (s["metric"]["job"], s["metric"]["node"], s["metric"].get("rank"))
        for s in wait_for(cluster, "up == 1", 6)
    }
    assert up == {
        *(("sglang", "spark-01", "0"), ("sglang", "spark-02", "1")),
        *(("node", "spark-01", None), ("node", "spark-02", None)),
        *(("prometheus", "spark-01", None), ("alertmanager", "spark-01", None)),
    }
    (power, _) = wait_for(cluster, "spark_gpu_power_watts", 2)
    assert power["value"][1] == "3.74"
    assert power["metric"]["group"] == "sglang"
    assert len(query(cluster, "time() - spark_gpu_samples_timestamp_seconds < 60")) == 2
    assert len(query(cluster, "spark_rank_expected == 1 and spark_rank_running == 1")) == 2
    wait_for(cluster, "ALERTS{alertname='watching', alertstate='firing'}", 1)
    wait_for(cluster, "prometheus_notifications_alertmanagers_discovered == 1", 1)
    every_panel_has_data(cluster)

    document, _ = Tool(served).document("status")
    watch = document["watch"]
    assert (watch["address"], watch["answers"], watch["receiver"]) == ("127.0.0.1:9090", True, "")
    assert watch["alerts"] == []
    assert watch["history"]["gpu_watts"].keys() == {"spark-01", "spark-02"}
    assert set(watch["history"]["gpu_watts"]["spark-02"]) == {3.74}

    # from outside, and for the fabric, only what the head needs
    assert not any(reached(cluster, f"198.18.0.1:{port}") for port in (9090, 9093, 9094, 9100))
    assert not reached(cluster, "198.18.0.2:9100")
    assert not reached(cluster, "169.254.1.1:9090", on=2)
    assert reached(cluster, "169.254.2.1:9100", on=1)

    assert "its monitoring is as declared" in served.unchanged(**watched)
    assert "No change" in served.unchanged()

    # one field: that container alone, and its data stay; and who is notified
    receiver = tmp_path / "receiver"
    receiver.touch(0o600)
    receiver.write_text(SECRET)
    before, since = ids(cluster), time.time()
    watched |= {"monitoring_disk": 5, "alert_receiver": str(receiver)}
    output = served.succeeds(**watched)
    assert "create sglang-prometheus: --storage.tsdb.retention.size: '10GB' -> '5GB'" in output
    assert "create sglang-alertmanager: file " in output
    after = ids(cluster)
    replaced = [name for name in before if before[name] != after[name]]
    assert sorted(replaced) == ["sglang-alertmanager", "sglang-prometheus"]
    assert query(cluster, f"up{{job='prometheus'}} @ {since}")
    served.unchanged(**watched)

    # a tag that has moved is a difference, and a new secret; no label has any; what has stopped
    # starts again
    receiver.write_text(f"{SECRET}2")
    head.run(MOVE)
    worker.run("docker stop sglang-node-exporter; systemctl stop spark-monitoring-sglang.timer")
    output = served.succeeds(**watched)
    moved = r"create sglang-alertmanager: digest: [0-9a-f]{12} -> [0-9a-f]{12}; its secrets differ"
    assert re.search(moved, output), output
    assert "hook-d41d8cd9" not in output + json.dumps(head.containers())
    assert "spark-02: start sglang-node-exporter: is exited" in output
    assert "spark-02: place the metrics timer: its timer is enabled inactive" in output

    absent = {**watched, "monitoring": "absent"}
    served.succeeds(**absent)
    assert set(ids(cluster)) == {"sglang-head"} and set(ids(cluster, 2)) == {"sglang-worker-1"}
    units = "ls /etc/systemd/system /usr/local/lib /run | grep spark-monitoring"
    assert [node.run(units, check=False).stdout for node in (head, worker)] == ["", ""]
    volumes = head.run("docker volume ls -q").stdout.split()
    assert sorted(volumes) == ["sglang-alertmanager", "sglang-prometheus"]
    served.succeeds(**absent, monitoring_data="absent")
    assert head.run("docker volume ls -q").stdout == ""
    assert lives(cluster) == ranks

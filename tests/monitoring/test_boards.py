"""Every query of every panel and rule, in a real Prometheus that scrapes two nodes.

Their ranks are SGLang's recorded metrics, whose counters grow; their node_exporter is a real one,
to which plain files are RDMA devices, an NVMe's sensor and the GPUs' figures.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from cluster.monitoring.boards import boards
from cluster.monitoring.rules import alerts, rule_groups
from cluster.monitoring.scrape import ScrapeTarget, prometheus_config

RECORDED = Path(__file__).with_name("sglang-0.5.11.txt").read_text()
NODES = ("spark-1", "spark-2")
GPU = """\
spark_gpu_utilization_ratio{gpu="0"} 0.96
spark_gpu_power_watts{gpu="0"} 62.1
spark_gpu_temperature_celsius{gpu="0"} 71
spark_gpu_sm_clock_hertz{gpu="0"} 2.411e9
spark_gpu_sm_clock_max_hertz{gpu="0"} 3.003e9
spark_gpu_samples_timestamp_seconds 1.7e9
"""
# Of a rank that a deploy has stopped.
RANK = """\
spark_rank_expected 0
spark_rank_running 0
spark_rank_restarts 0
spark_rank_started_timestamp_seconds 1.7e9
spark_rank_load_limit_seconds 1500
spark_rank_samples_timestamp_seconds {now}
"""
WATCHDOG = """\
spark_watchdog_actions_total{key="memory-floor"} 1
spark_watchdog_duty{duty="limit"} 1
spark_watchdog_timestamp_seconds 1.7e9
"""
HALVES = ("rocep1s0f0", "roceP2p1s0f0", "rocep1s0f1", "roceP2p1s0f1")


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def fake_sysfs(folder: Path) -> Path:
    """Two QSFP ports of two halves each, and an NVMe's sensor, as Linux shows them."""
    files = {"class/hwmon/.keep": ""}
    for device in HALVES:
        port = f"class/infiniband/{device}/ports/1"
        files |= {
            f"class/infiniband/{device}/fw_ver": "28.45.4028",
            f"class/infiniband/{device}/board_id": "NVD0000000087",
            f"class/infiniband/{device}/hca_type": "MT4129",
            f"{port}/state": "4: ACTIVE",
            f"{port}/phys_state": "5: LinkUp",
            f"{port}/rate": "200 Gb/sec (4X HDR)",
            f"{port}/link_layer": "Ethernet",
            f"{port}/counters/port_rcv_data": "1000000000",
            f"{port}/counters/port_xmit_data": "1000000000",
        }
    sensor = "devices/pci0004/nvme/nvme0/hwmon0"
    files |= {f"{sensor}/name": "nvme", f"{sensor}/temp1_input": "41850"}
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{text}\n")
    (folder / sensor / "device").symlink_to("..")
    (folder / "devices/system").symlink_to("/sys/devices/system")  # the CPUs
    (folder / "class/hwmon/hwmon0").symlink_to(f"../../{sensor}")
    return folder


class Engine(ThreadingHTTPServer):
    """SGLang's recorded /metrics; every counter has grown by its recorded value since the last."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Metrics)
        self.scrapes = 0

    def text(self) -> str:
        self.scrapes += 1

        def grown(line: re.Match[str]) -> str:
            return f"{line[1]} {float(line[2]) * self.scrapes}"

        counters = r"(?m)^(sglang:\w+_(?:total|bucket|sum|count)\{.*\}) (\S+)$"
        return re.sub(counters, grown, RECORDED)


class _Metrics(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def running(folder: Path, program: Path, **options: object) -> Iterator[None]:
    """A program that ends with the test; its options as --name.of.it=value."""
    words = [f"--{name.replace('__', '.').replace('_', '-')}={v}" for name, v in options.items()]
    with (folder / f"{program.name}.log").open("w") as log:
        process = subprocess.Popen([str(program), *words], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


class Prometheus:
    """A running one's API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **query: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as e:
            if e.code == 503:  # it is starting
                return None
            pytest.fail(f"{query}: {e.read().decode()}")
        except OSError:
            return None

    def values(self, expr: str) -> list[float]:
        data = self.get("query", query=expr)
        return [float(each["value"][1]) for each in data["result"]] if data else []


@pytest.fixture
def prometheus(programs: Path, tmp_path: Path) -> Iterator[Prometheus]:
    folder = tmp_path
    (folder / "text").mkdir()
    (folder / "text" / "gpu.prom").write_text(GPU)
    (folder / "text" / "watchdog.prom").write_text(WATCHDOG)
    (folder / "text" / "rank.prom").write_text(RANK.format(now=time.time()))
    exporter, own = free_address(), free_address()
    rules, config = folder / "rules.json", folder / "prometheus.json"
    rules.write_text(json.dumps(rule_groups()))
    with ExitStack() as stack:
        engine = stack.enter_context(Engine())
        thread = threading.Thread(target=engine.serve_forever, args=(0.05,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(engine.shutdown)
        serves = f"127.0.0.1:{engine.server_port}"
        targets = [
            *(ScrapeTarget("node", exporter, node) for node in NODES),
            *(ScrapeTarget("sglang", serves, node, str(rank)) for rank, node in enumerate(NODES)),
        ]
        document = prometheus_config("g", targets, [str(rules)])
        document["global"] |= dict.fromkeys(("scrape_interval", "evaluation_interval"), "1s")
        document["global"]["scrape_timeout"] = "1s"
        config.write_text(json.dumps(document))
        stack.enter_context(
            running(
                folder,
                programs / "prometheus-node-exporter",
                web__listen_address=exporter,
                path__sysfs=fake_sysfs(folder / "sys"),
                collector__textfile__directory=folder / "text",
            )
        )
        stack.enter_context(
            running(
                folder,
                programs / "prometheus",
                config__file=config,
                storage__tsdb__path=folder / "data",
                web__listen_address=own,
            )
        )
        yield Prometheus(own)


def queries() -> Iterator[tuple[str, str]]:
    """Panel, and a query of it for one group and node."""
    for board in boards().values():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"].replace("$group", "g").replace("$node", NODES[0])
                yield f"{panel['title']}: {target['legendFormat']}", expr


def every_query_of_every_panel_returns_data(prometheus: Prometheus) -> None:
    listed = dict(queries())
    assert len(listed) == len(list(queries()))
    missing: list[str] = []

    def complete() -> bool:
        missing[:] = [name for name, expr in listed.items() if not prometheus.values(expr)]
        return not missing

    try:
        until(complete)
    except AssertionError:
        pytest.fail(f"no data: {missing}")
    assert not any("$" in expr for expr in listed.values())


def every_rule_is_evaluated_and_every_recorded_series_is_there(
    prometheus: Prometheus,
) -> None:
    (group,) = rule_groups()["groups"]

    def evaluated() -> bool:
        data = prometheus.get("rules")
        rules = data["groups"][0]["rules"] if data else []
        wrong = [rule for rule in rules if rule["health"] == "err"]
        assert not wrong, wrong
        return bool(rules) and all(rule["health"] == "ok" for rule in rules)

    until(evaluated, "not every rule was evaluated")
    for rule in group["rules"]:
        if "record" in rule:
            labels = ",".join(f'{k}="{v}"' for k, v in rule["labels"].items())
            series = f"{rule['record']}{{{labels}}}"
            until(lambda series=series: prometheus.values(series), f"no data: {series}")


def every_series_that_an_alert_reads_is_there(prometheus: Prometheus) -> None:
    selector = re.compile(r"(?:(?:sglang|group|node|half):|node_|spark_|up\b)[\w:]*(?:\{[^}]*\})?")
    for alert in alerts():
        for series in set(selector.findall(alert.expr)):
            until(lambda series=series: prometheus.values(series), f"{alert.key}: no {series}")


def power_and_halves_are_what_the_series_say(prometheus: Prometheus) -> None:
    """Two GPUs take 124.2 W; two nodes have two ports of two halves each."""
    until(lambda: prometheus.values("group:tokens_per_joule:ratio1m"))
    for expr, values in {
        "sum(spark_gpu_power_watts)": [pytest.approx(124.2)],
        "count by (half) (half:fabric_bytes:rate2m)": [4, 4],
    }.items():
        # The second node's first scrapes come up to a second after the first one's.
        until(lambda e=expr, v=values: prometheus.values(e) == v, f"{expr} is not {values}")


def test_board_and_rules_have_data(prometheus: Prometheus) -> None:
    """One test, since each worker that had one of several would start these programs."""
    every_query_of_every_panel_returns_data(prometheus)
    every_rule_is_evaluated_and_every_recorded_series_is_there(prometheus)
    every_series_that_an_alert_reads_is_there(prometheus)
    power_and_halves_are_what_the_series_say(prometheus)

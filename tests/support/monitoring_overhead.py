"""What monitoring costs: memory and CPU of its parts at rest, and whether a server's ITL changes.

Debian's programs, with the arguments and files that a deploy of two nodes gives them, on this
machine: two node_exporters, Prometheus, Alertmanager, the timer's scripts. The server is the
reference server, the client spark-bench. "Without" means that all parts are stopped (SIGSTOP).

    make monitoring-overhead
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from samples import fabric_of, sparks, want
from spark_bench.reference_server.launcher import ReferenceServer

from cluster.monitoring import metrics_timer, wanted
from cluster.monitoring.alertmanager import read_receiver

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".cache" / "prometheus" / "usr"
NAMES = {"node_exporter": "prometheus-node-exporter", "alertmanager": "prometheus-alertmanager"}
# Debian's Alertmanager reads its templates in /usr/share, where its package is not installed.
WITH_SHARE = 'mount -t overlay share -o "lowerdir=$0:/usr/share" /usr/share && exec "$@"'
SMI = "#!/bin/sh\necho '0, 96, 62.31, 74, 2405, 3003'\n"
DOCKER = "#!/bin/sh\necho 'true 2026-11-27T13:40:00Z 0 unless-stopped'\n"
SETTLE_SECONDS = 30
# Each repeat has two scrapes or more: 7 rounds of 8 answers of 4.1 s.
SERVER = {"ttft_us": 100_000, "itl_us": 10_000}
LOAD = ("-n", "56", "-c", "8", "-i", "128", "-o", "400", "--warmup", "0")


class RunningPart:
    """One program that runs: its name, its process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name, self.process = name, process

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def monitoring(folder: Path, engine: str) -> Iterator[list[RunningPart]]:
    """All parts, as a deploy of two nodes has them; both ranks are the server at this address."""
    declaration = want(2)
    scraped = wanted.fabric_addresses(declaration, fabric_of(declaration, sparks()))
    private = wanted.Private(read_receiver("http://127.0.0.1:9/nobody"))
    nodes = wanted.wanted_parts(declaration, scraped, wanted.LOOPBACK, private)
    listed = [(node, each) for node, there in nodes.items() for each in there.parts]
    addresses = {each.part.at: free_address() for _, each in listed}
    addresses |= {f"{at}:{declaration.common.port}": engine for at in scraped.values()}
    replaced = {**addresses, "/host": "", "/etc/": f"{folder}/etc/"}
    replaced |= {"=/prometheus": f"={folder}/prometheus", "=/alertmanager": f"={folder}/am"}

    def here(text: str) -> str:
        for old, new in replaced.items():
            text = text.replace(old, new)
        return text

    with ExitStack() as stack:
        parts = []
        for node, each in listed:
            for path, text in {**each.contents, **each.secrets}.items():
                place = Path(here(path))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(here(text))
            kind = each.part.kind
            words = [str(PROGRAMS / "bin" / NAMES.get(kind, kind)), *map(here, each.part.args)]
            words = [word.replace("--path.rootfs=", "--path.rootfs=/", 1) for word in words]
            if kind == "alertmanager":
                share = ["unshare", "--map-root-user", "--mount", "sh", "-c", WITH_SHARE]
                words = [*share, str(PROGRAMS / "share"), *words]
            log = stack.enter_context((folder / f"{node}-{kind}.log").open("wb"))
            process = subprocess.Popen(words, stdout=log, stderr=log)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            # A stopped process does not end.
            stack.callback(process.send_signal, signal.SIGCONT)
            wait_for(here(each.url), folder / f"{node}-{kind}.log")
            parts.append(RunningPart(f"{kind} of {node}", process))
        yield parts


def wait_for(url: str, log: Path) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                sys.exit(f"{url} does not answer:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)


def timer_seconds(folder: Path, runs: int = 40) -> float:
    """CPU seconds of one run of the timer's scripts, of which nvidia-smi and docker are none."""
    (folder / "bin").mkdir()
    for name, text in {"nvidia-smi": SMI, "docker": DOCKER}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    timer = wanted.declared_timer(want(2), "spark-1")
    assert timer
    scripts = [
        text for path, text in metrics_timer.unit_files(timer).items() if path.endswith(".sh")
    ]
    environment = {"PATH": f"{folder}/bin:/usr/bin:/bin"}
    words = (str(folder), timer.rank, str(timer.load_seconds), str(timer.first_seconds))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for script in scripts * runs:
        subprocess.run(["sh", "-c", script, "sh", *words], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / runs


def at_rest(parts: list[RunningPart], seconds: int) -> Iterator[str]:
    """A line for each part: its memory, and its CPU time over these seconds."""
    before = {part.name: part.cpu_seconds() for part in parts}
    most = dict.fromkeys(before, 0.0)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        most = {part.name: max(most[part.name], part.resident_mb()) for part in parts}
        time.sleep(min(1.0, left))
    for part in parts:
        share = (part.cpu_seconds() - before[part.name]) / seconds
        yield f"{part.name:28} {most[part.name]:6.1f} MB   {share:6.2%} of a core"


def measure(url: str, results: Path) -> None:
    """One repeat into a file of its own."""
    words = (sys.executable, "-m", "spark_bench", "run", "short", *LOAD, "--url", url)
    options = (
        "--endpoint",
        "completions",
        "--count-tokens",
        "usage",
        "--no-history",
        "--save-requests",
    )
    done = subprocess.run(
        [*words, *options, "--output", str(results)], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def compare(parts: list[RunningPart], url: str, folder: Path, repeats: int) -> str:
    """What `spark-bench compare` says of repeats without and with monitoring, in turns."""
    signals: Mapping[str, signal.Signals] = {"without": signal.SIGSTOP, "with": signal.SIGCONT}
    for name in signals:
        (folder / name).mkdir()
    for repeat in range(repeats):
        for name in list(signals)[:: 1 if repeat % 2 == 0 else -1]:
            for part in parts:
                part.process.send_signal(signals[name])
            # A stopped part makes up for its scrape first.
            time.sleep(metrics_timer.EVERY)
            measure(url, folder / name / f"{repeat}.json")
            load = json.dumps([round(each, 2) for each in os.getloadavg()])
            print(f"repeat {repeat + 1} {name}: load {load}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "spark_bench", "compare", "--markdown"]
    metrics = "mean_itl_ms,median_itl_ms,p99_itl_ms,mean_ttft_ms,output_throughput"
    sides = [str(folder / name) for name in signals]
    done = subprocess.run([*command, "--metrics", metrics, *sides], capture_output=True, text=True)
    return done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="to measure at rest")
    parser.add_argument("--repeats", type=int, default=5, help="with, and as many without")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ReferenceServer() as reference:
        reference.configure(**SERVER)
        folder = Path(place)
        with monitoring(folder, reference.url.removeprefix("http://")) as parts:
            time.sleep(SETTLE_SECONDS)
            print(f"load {os.getloadavg()}, {os.cpu_count()} cores, over {chosen.seconds} s:")
            print("\n".join(at_rest(parts, chosen.seconds)))
            cost = timer_seconds(folder)
            share = cost / metrics_timer.EVERY
            print(f"the timer's scripts: {1000 * cost:.0f} ms of CPU a run, {share:.2%} of a core")
            print(compare(parts, reference.url, folder, chosen.repeats))
            print(f"load {os.getloadavg()}")


if __name__ == "__main__":
    main()

"""Run the tests by layers, some side by side, and say where the time went.

    .venv/bin/python tests/layers.py               # every layer that this machine can run
    .venv/bin/python tests/layers.py --quick       # core, facts, commands, deploys on fakes
    .venv/bin/python tests/layers.py core cluster  # these layers

A layer is a pytest process with its own log, `.cache/tests/LAYER.log`. As many run at a time as
there are cores, two at least: one that waits for simulated nodes leaves its core to others. Tests
marked `alone` measure time or CPU: they come last, one by one. Prints the log of a layer that
fails, and at the end the longest tests and one closing line over all layers, as pytest's own. Exits
with 1 if any layer failed. $JOBS: how many layers at a time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".cache" / "tests"
MARKS = "not acceptance and not faults and not docker28"
# Of the whole on 2 cores; longer is a warning, for the machine may be busy.
GOAL_MINUTES = 15
LONGEST = 15


@dataclass(frozen=True)
class Layer:
    """What one pytest process runs.

    + paths: files and folders under tests/
    + workers: how many xdist workers share its tests, each with fixtures of its own; 0: none
    + cluster: needs the simulated cluster
    + alone: nothing else may run meanwhile
    """

    name: str
    paths: Sequence[str]
    workers: int = 0
    cluster: bool = False
    alone: bool = False

    def argv(self) -> list[str]:
        marks = f"{MARKS} and {'' if self.alone else 'not '}alone"
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", marks]
        if self.workers:
            words += ["-n", str(self.workers), "--dist", "worksteal"]
        return words + [f"tests/{path}" for path in self.paths]


CORE = (
    "deploys", "core", "operations", "house", "golden", "commands", "sglang", "monitoring",
    "test_facts.py",
)  # fmt: skip
# In the order in which they start: the longest first. Most of the time tests wait, for nodes and
# for servers: more workers than there are cores.
LAYERS = (
    Layer("cluster", ["cluster"], workers=3, cluster=True),
    Layer("bench", ["bench"], workers=2),
    Layer("local", ["local", "browser"]),
    Layer("core", CORE, workers=3),
    Layer("bench-alone", ["bench"], alone=True),
    Layer("cluster-alone", ["cluster"], cluster=True, alone=True),
)
QUICK = ("core",)


@dataclass
class Run:
    """A layer's process, and once it has ended its closing line, seconds and exit code."""

    layer: Layer
    process: subprocess.Popen[bytes]
    log: TextIO
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    cpu: float = 0.0
    code: int | None = None

    def poll(self) -> bool:
        """Whether it has ended."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return False
        self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self.began
        self.cpu = usage.ru_utime + usage.ru_stime
        self.log.close()
        return True

    @property
    def text(self) -> str:
        return Path(self.log.name).read_text(errors="replace")

    @property
    def closing(self) -> str:
        """pytest's closing line without its frame: "3 passed, 1 skipped in 2.10s"."""
        ends = re.findall(r"^=*\s*((?:\d+ \w+(?:, )?)+ in [\d.]+s.*?)\s*=*$", self.text, re.M)
        return ends[-1] if ends else "no tests ran"

    @property
    def failed(self) -> bool:
        return self.code not in (0, 5)  # 5: nothing of this layer was selected


def start(layer: Layer) -> Run:
    LOGS.mkdir(parents=True, exist_ok=True)
    for old in LOGS.glob(f"{layer.name}.costs*"):
        old.unlink()
    log = (LOGS / f"{layer.name}.log").open("w")
    environment = {**os.environ, "TEST_COSTS": str(LOGS / f"{layer.name}.costs")}
    # Tests start thousands of Python processes: compile modules once, whatever this shell wants.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        layer.argv(), cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
    )
    return Run(layer, process, log)


def run_layers(layers: Sequence[Layer], jobs: int) -> list[Run]:
    """Run them all; a failure is shown at once and does not stop the others."""
    waiting, running, ended = list(layers), list[Run](), list[Run]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not any(r.layer.alone for r in running):
                if waiting[0].alone and running:
                    break
                running.append(start(waiting.pop(0)))
            time.sleep(0.1)
            for run in [r for r in running if r.poll()]:
                running.remove(run)
                ended.append(run)
                show(run)
    finally:
        for run in running:
            run.process.send_signal(signal.SIGINT)  # fixtures take down what they have started
        for run in running:
            run.process.wait()
    return ended


def show(run: Run) -> None:
    """A line for a layer that has ended, after its log where it failed."""
    if run.failed:
        print(f"---- {run.layer.name} failed ({run.log.name}):\n{run.text}", flush=True)
    took = f"{run.seconds:6.0f} s {run.cpu:6.0f} s CPU"
    print(f"{run.layer.name:14} {took}   {run.closing}", flush=True)


def costs(runs: Sequence[Run]) -> Iterator[tuple[float, float, str]]:
    """Wall seconds, CPU seconds and id of every test, by what `conftest.py` has written."""
    for run in runs:
        for file in LOGS.glob(f"{run.layer.name}.costs*"):
            for line in file.read_text().splitlines():
                wall, cpu, test = json.loads(line)
                yield wall, cpu, test


def total(runs: Sequence[Run], seconds: float) -> str:
    """One closing line for all layers, as pytest writes it."""
    counts: Counter[str] = Counter()
    for run in runs:
        for number, outcome in re.findall(r"(\d+) ([a-z]+)", run.closing.rpartition(" in ")[0]):
            if outcome != "deselected":  # by another layer selected
                counts[outcome] += int(number)
    order = sorted(counts, key=lambda name: (name == "passed", name != "failed"))
    return f"{', '.join(f'{counts[name]} {name}' for name in order)} in {seconds:.2f}s"


def main(names: Sequence[str]) -> int:
    cluster = sys.platform == "linux" and os.geteuid() == 0
    chosen = QUICK if "--quick" in names else [name for name in names if not name.startswith("-")]
    if wrong := set(chosen) - {layer.name for layer in LAYERS}:
        print(f"tests/layers.py: no layer {', '.join(sorted(wrong))}", file=sys.stderr)
        return 2
    layers = [layer for layer in LAYERS if not chosen or layer.name in chosen]
    if not cluster and any(layer.cluster for layer in layers):
        print("Without the simulated cluster (tests/cluster): it needs root on Linux")
        layers = [layer for layer in layers if not layer.cluster]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    runs = run_layers(layers, int(os.environ.get("JOBS", max(2, os.cpu_count() or 2))))
    seconds = time.monotonic() - began
    print("\nLongest tests (wall, CPU of this side):")
    for wall, cpu, test in sorted(costs(runs), reverse=True)[:LONGEST]:
        print(f"{wall:7.1f} s {cpu:7.1f} s  {test}")
    if not chosen and seconds > GOAL_MINUTES * 60:
        print(f"warning: {seconds / 60:.0f} min, of {GOAL_MINUTES} on 2 idle cores")
    if failed := [run.layer.name for run in runs if run.failed]:
        print(f"failed: {', '.join(failed)}; logs in {LOGS}")
    print(total(runs, seconds), flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

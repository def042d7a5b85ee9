"""The clients: each one's options for a load, and where its figures are."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peers.cases import INPUT, PeerLoad
from peers.install import Places
from peers.processes import ProcessUsage, settle
from peers.reported import Reported, from_aiperf, from_ours, from_sglang

SAMPLE = 0.004
"""Seconds between samples of a client's CPU and memory use."""

TIMEOUT = 240.0


class ClientFailed(Exception):
    """A client gave no result; the message has the end of what it printed."""


@dataclass(frozen=True)
class ClientRun:
    """What one run gave.

    parse_seconds: CPU seconds for parsing the responses after the run; 0 if the client parses
        during it
    """

    reported: Reported
    usage: ProcessUsage
    parse_seconds: float = 0.0
    notes: str = ""


class BenchClient(ABC):
    """One client in its own environment. `with` keeps it ready for many runs.

    package: its environment's name; "": it needs none
    """

    name: str
    package = ""
    module: str
    # The loads that it takes part in, by their streams; None: all of them.
    streams: tuple[int, ...] | None = None
    # Whether it is one process, which may then have priority over all others on its core.
    single = True

    def __init__(self, places: Places, folder: Path) -> None:
        self.places = places
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self.result = folder / f"{self.name}.json"

    def __enter__(self) -> BenchClient:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abstractmethod
    def argv(self, case: PeerLoad, url: str) -> list[str]:
        """Its options for a load."""

    @abstractmethod
    def run(self, case: PeerLoad, url: str) -> ClientRun:
        """One run. Raises ClientFailed."""

    @property
    @abstractmethod
    def help_command(self) -> list[str]:
        """The command that shows its options."""

    def environment(self) -> dict[str, str]:
        """Nothing leaves this machine: no hub, no proxy, no telemetry."""
        loopback = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        quiet = {"TOKENIZERS_PARALLELISM": "false", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        return dict(os.environ) | loopback | quiet | {"HF_HUB_OFFLINE": "1"}

    def failed(self, why: str) -> ClientFailed:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return ClientFailed(f"{self.name} {why}:\n{text[-1500:]}")


class Spawned(BenchClient):
    """A new process for each run."""

    @property
    @abstractmethod
    def command(self) -> list[str]:
        """The command, without options."""

    @property
    def help_command(self) -> list[str]:
        return [*self.command, "--help"]

    def run(self, case: PeerLoad, url: str) -> ClientRun:
        self.result.unlink(missing_ok=True)
        usage = ProcessUsage()
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [*self.command, *self.argv(case, url)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,
                preexec_fn=partial(settle, real_time=self.single),
            )
            _watch(process.pid, usage, lambda wait: _ended(process, wait))
            if process.poll() is None:
                process.kill()
        if process.wait() or not self.result.exists():
            raise self.failed(f"ended with status {process.returncode}")
        return self.read(json.loads(self.result.read_text()), usage)

    @abstractmethod
    def read(self, result: Mapping[str, Any], usage: ProcessUsage) -> ClientRun:
        """Interpret its result file."""


class Forked(BenchClient):
    """A process that has done the client's imports (keeper.py) and is forked for each run."""

    kind: str
    process: subprocess.Popen[str]

    def __enter__(self) -> BenchClient:
        keeper = Path(__file__).with_name("keeper.py")
        self.process = subprocess.Popen(
            [str(self.python), str(keeper), self.kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            text=True,
            env=self.environment(),
            start_new_session=True,
            preexec_fn=partial(settle, real_time=False),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def python(self) -> Path:
        return self.places.python(self.kind)

    @property
    def help_command(self) -> list[str]:
        return [str(self.python), "-m", self.module, "--help"]

    def ready(self) -> None:
        """Wait for the imports. Raises ClientFailed."""
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], TIMEOUT)[0] or not self._line():
            raise self.failed("did not start")

    def run(self, case: PeerLoad, url: str) -> ClientRun:
        self.result.unlink(missing_ok=True)
        order = {"argv": self.argv(case, url), "log": str(self.log)}
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        child = self._line()["pid"]
        usage = ProcessUsage()
        if not _watch(child, usage, lambda wait: _readable(self.process, wait)):
            os.kill(child, 9)
        status = self._line()["status"]
        if status or not self.result.exists():
            raise self.failed(f"ended with status {status}")
        text = self.result.read_text().strip().splitlines()[-1]
        return ClientRun(from_sglang(json.loads(text)), usage)

    def _line(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise self.failed("is gone")
        return json.loads(line)


class Ours(Spawned):
    name = "spark-bench"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "spark_bench", "run"]

    @property
    def help_command(self) -> list[str]:
        return [sys.executable, "-m", "spark_bench", "--help"]

    def argv(self, case: PeerLoad, url: str) -> list[str]:
        lengths = ["-i", str(INPUT), "-o", str(case.output)]
        load = ["-n", str(case.requests), "-c", str(case.streams), "--warmup", "0", *lengths]
        alone = ["--no-metrics", "--no-power", "--quiet", "--max-failures", "100%"]
        tokens = ["--tokenizer", str(self.places.tokenizer)]
        return ["--url", url, *load, *alone, *tokens, "--output", str(self.result)]

    def read(self, result: Mapping[str, Any], usage: ProcessUsage) -> ClientRun:
        audit = result["audit"]
        notes = "; ".join([audit["verdict"], *audit["reasons"]])
        return ClientRun(from_ours(result["summary"]), usage, audit["parse_seconds"], notes)


class OursUncounted(Ours):
    """Ours without token counts in the stream, which the other clients don't request either. The
    difference from `Ours` is what counts cost."""

    name = "spark-bench off"

    def argv(self, case: PeerLoad, url: str) -> list[str]:
        return [*super().argv(case, url), "--count-tokens", "off"]


class SGLang(Forked):
    name = "sglang Python"
    package = "sglang"
    kind = "sglang"
    module = "sglang.benchmark.serving"

    def argv(self, case: PeerLoad, url: str) -> list[str]:
        tokenizer = str(self.places.tokenizer)
        lengths = ["--random-input-len", str(INPUT), "--random-output-len", str(case.output)]
        load = ["--num-prompts", str(case.requests), "--max-concurrency", str(case.streams)]
        server = ["--backend", "sglang-oai-chat", "--base-url", url]
        model = ["--model", tokenizer, "--tokenizer", tokenizer, "--served-model-name", "reference"]
        data = ["--dataset-name", "random-ids", "--random-range-ratio", "1", *lengths]
        quiet = ["--warmup-requests", "0", "--disable-tqdm", "--output-file", str(self.result)]
        return [*server, *model, *data, *load, *quiet]


class Rust(SGLang):
    """With one thread for parsing, since every client has one core."""

    name = "sglang Rust"
    kind = "rust"
    module = "sglang.benchmark.rust_client"

    def argv(self, case: PeerLoad, url: str) -> list[str]:
        return [*super().argv(case, url), "--worker-threads", "1"]


class VLLM(Forked):
    name = "vLLM"
    package = "vllm"
    kind = "vllm"
    module = "vllm.entrypoints.cli.main"

    @property
    def help_command(self) -> list[str]:
        return [str(self.python), "-m", self.module, "bench", "serve", "--help"]

    def argv(self, case: PeerLoad, url: str) -> list[str]:
        lengths = ["--random-input-len", str(INPUT), "--random-output-len", str(case.output)]
        load = ["--num-prompts", str(case.requests), "--max-concurrency", str(case.streams)]
        server = ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
        model = ["--model", "reference", "--tokenizer", str(self.places.tokenizer)]
        data = ["--dataset-name", "random", "--ignore-eos", *lengths]
        wanted = ["--percentile-metrics", "ttft,tpot,itl", "--metric-percentiles", "99"]
        place = ["--result-dir", str(self.folder), "--result-filename", self.result.name]
        first = ["--ready-check-timeout-sec", "0", "--num-warmups", "0", "--disable-tqdm"]
        saved = [*wanted, "--save-result", *place]
        return [*server, "--base-url", url, *model, *data, *load, *first, *saved]


class AIPerf(Spawned):
    """Several processes, which need 20 s to start on one core: not at every load."""

    name = "aiperf"
    package = "aiperf"
    streams = (4, 16, 64, 256)
    single = False

    @property
    def command(self) -> list[str]:
        return [str(self.places.python("aiperf").with_name("aiperf")), "profile"]

    def argv(self, case: PeerLoad, url: str) -> list[str]:
        load = ["--concurrency", str(case.streams), "--request-count", str(case.requests)]
        lengths = ["--isl", str(INPUT), "--osl", str(case.output)]
        model = ["-m", "reference", "--tokenizer", str(self.places.tokenizer)]
        server = ["--url", url, "--endpoint-type", "chat", "--streaming"]
        extra = ["--use-server-token-count", "--extra-inputs", "ignore_eos:true"]
        alone = ["--ui", "none", "--no-server-metrics", "--no-gpu-telemetry"]
        place = ["--output-artifact-dir", str(self.folder / "aiperf")]
        return [*server, *model, *lengths, *load, *extra, *alone, *place]

    def environment(self) -> dict[str, str]:
        """Without HF_HUB_OFFLINE, with which it refuses a tokenizer in a folder. It contacts no hub
        for one anyway."""
        return {k: v for k, v in super().environment().items() if k != "HF_HUB_OFFLINE"}

    def run(self, case: PeerLoad, url: str) -> ClientRun:
        self.result = self.folder / "aiperf" / "profile_export_aiperf.json"
        return super().run(case, url)

    def read(self, result: Mapping[str, Any], usage: ProcessUsage) -> ClientRun:
        return ClientRun(from_aiperf(result), usage)


KINDS: tuple[type[BenchClient], ...] = (Ours, OursUncounted, SGLang, Rust, VLLM, AIPerf)


def _watch(pid: int, usage: ProcessUsage, ended: Any) -> bool:
    """Sample a process's usage until it ends, for at most TIMEOUT seconds; return whether it did.

    ended: called with seconds; waits no longer than that, and returns whether the process ended
    """
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        usage.look(pid)
        if ended(SAMPLE):
            return True
    return False


def _ended(process: subprocess.Popen[bytes], wait: float) -> bool:
    time.sleep(wait)
    return process.poll() is not None


def _readable(process: subprocess.Popen[str], wait: float) -> bool:
    assert process.stdout
    return bool(select.select([process.stdout], [], [], wait)[0])

"""The sampling process: what it reports, how it ends, and that it dies with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from fake_metrics import FakeMetrics, fake_metrics
from spark_bench.project import ProjectNode, ProjectSsh
from spark_bench.telemetry import readings, sampling
from spark_bench.telemetry.messages import SamplerJob
from spark_bench.telemetry.sampling import COMMAND, Sampling
from waiting import until

TTFT = "sglang:time_to_first_token_seconds"
HERE = ProjectNode("here", here=True)
NVIDIA_SMI = '#!/bin/sh\necho "40.0 W, 55, 2000 MHz, 90 %, [N/A]"\n'


@pytest.fixture
def metrics() -> Iterator[FakeMetrics]:
    with fake_metrics() as server:
        yield server


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine has a GPU, as far as its nvidia-smi says."""
    return program(tmp_path, monkeypatch, "nvidia-smi", NVIDIA_SMI)


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> Path:
    """Put a program of this name before all others."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


def sampled(
    job: SamplerJob, seconds: float = 0.0, enough: Callable[[], object] = lambda: True
) -> readings.ServerSide:
    """Sample for at least so many seconds, and until it is enough."""
    running = Sampling.start(job)
    time.sleep(seconds)
    until(enough)
    return running.stop()


def test_the_server_is_sampled_before_during_and_after(metrics: FakeMetrics) -> None:
    side = sampled(SamplerJob(url=metrics.url, interval=0.05), enough=lambda: metrics.requests >= 5)
    assert len(side.samples) >= 4
    assert {sample.running for sample in side.samples} == {3.0}
    assert side.notes == ()
    grown = side.after[TTFT].count - side.before[TTFT].count
    assert side.before[TTFT].count == 10
    assert side.generated_tokens == grown == 10 * (metrics.requests - 1)


def test_samples_are_on_the_clients_clock(metrics: FakeMetrics) -> None:
    before = time.perf_counter_ns()
    side = sampled(SamplerJob(url=metrics.url, interval=0.05), 0.1)
    times = [sample.at_ns for sample in side.samples]
    assert times == sorted(times)
    assert before < times[0] < side.begin_ns < side.end_ns < times[-1] < time.perf_counter_ns()


def test_one_connection_carries_all_readings(metrics: FakeMetrics) -> None:
    sampled(
        SamplerJob(url=f"{metrics.url}/v1/", interval=0.02), enough=lambda: metrics.requests > 3
    )
    assert metrics.connections == 1


def test_the_key_goes_to_the_server_and_shows_nowhere(metrics: FakeMetrics) -> None:
    job = SamplerJob(url=metrics.url, api_key="s3cret", interval=0.05)
    running = Sampling.start(job)
    arguments = Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{running.process.pid}/environ").read_bytes()
    side = running.stop()
    assert metrics.keys == {"Bearer s3cret"}
    texts = [repr(job), repr(side), msgspec.json.encode(side).decode()]
    assert not any("s3cret" in text for text in texts)
    assert b"s3cret" not in arguments + environment


@pytest.mark.parametrize(
    "status, why",
    [
        pytest.param(404, "answers 404: serve with enable_metrics = True", id="not-enabled"),
        pytest.param(503, "did not answer: answers 503", id="not-yet"),
    ],
)
def test_a_server_without_metrics_is_a_note(status: int, why: str) -> None:
    with fake_metrics(status) as server:
        often = (lambda: server.requests > 1) if status == 503 else (lambda: True)
        side = sampled(SamplerJob(url=server.url, interval=0.05), 0.15, often)
        assert (server.requests > 1) == (status == 503)
    assert len(side.notes) == 1
    assert why in side.notes[0]
    assert side.samples == ()


def test_endless_metrics_are_a_note(metrics: FakeMetrics) -> None:
    metrics.more = b"# " + b"a" * 5_000_000
    side = sampled(SamplerJob(url=metrics.url, interval=0.05))
    (note,) = side.notes
    assert "answers with more than 4194304 bytes" in note and not side.samples


def test_an_absent_server_is_noted_once() -> None:
    side = sampled(SamplerJob(url="http://127.0.0.1:1", interval=0.02), 0.2)
    (note,) = side.notes
    assert note.startswith("http://127.0.0.1:1/metrics did not answer: ")


def test_this_machine_is_sampled_without_ssh(
    gpu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "ssh", "#!/bin/sh\nexit 1\n")
    side = sampled(SamplerJob(interval=0.1, nodes=(HERE,)), 2)
    (node,) = side.nodes
    assert side.notes == ()
    assert len(node.samples) >= 3
    assert node.power_w == readings.Extent(pytest.approx(40.0), 40.0)
    assert node.energy_joules == pytest.approx(40 * (side.end_ns - side.begin_ns) / 1e9)
    assert node.samples[0].memory_total_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )


@pytest.mark.parametrize(
    "text, why",
    [
        pytest.param(
            "#!/bin/sh\necho 'NVIDIA-SMI has failed: no driver'; exit 9\n",
            "NVIDIA-SMI has failed: no driver",
            id="driver-lost",
        ),
        pytest.param("#!/bin/sh\nexec sleep 60\n", "nvidia-smi does not answer", id="hangs"),
    ],
)
def test_a_silent_gpu_leaves_the_rest(
    text: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "nvidia-smi", text)
    side = sampled(SamplerJob(interval=0.1, nodes=(HERE,)), 0.2)
    (node,) = side.nodes
    assert (node.energy_joules, node.power_w) == (None, None)
    assert node.memory_used_bytes is not None
    (note,) = side.notes
    assert note.startswith("here: no power or temperature:")
    assert why in note


@pytest.mark.parametrize(
    "node, why",
    [
        pytest.param(
            ProjectNode("far", ssh=ProjectSsh("127.0.0.1", port=1)),
            "Connection refused",
            id="refused",
        ),
        pytest.param(ProjectNode("@docker/x"), "it is not reached through SSH", id="no-ssh"),
    ],
)
def test_a_node_that_is_not_reached_is_a_note(node: ProjectNode, why: str) -> None:
    side = sampled(SamplerJob(nodes=(node,)), 0)
    (note,) = side.notes
    assert note.startswith(f"{node.name} can't be sampled: ")
    assert note.endswith(why)
    assert side.nodes == (readings.NodeSamples(node.name),)
    assert readings.tokens_per_joule(100, side.nodes) is None


def test_one_ssh_connection_serves_the_whole_run(
    gpu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake ssh runs the remote words here, through a shell, as sshd does."""
    calls = tmp_path / "calls"
    run = 'for last; do :; done; exec sh -c "$last"'
    program(tmp_path, monkeypatch, "ssh", f'#!/bin/sh\necho "$*" >>{calls}\n{run}\n')
    side = sampled(
        SamplerJob(interval=0.1, nodes=(ProjectNode("a", ssh=ProjectSsh("a", user="u")),)), 2
    )
    assert len(side.nodes[0].samples) >= 3
    assert side.notes == ()
    assert calls.read_text().count("BatchMode=yes") == 1


def test_a_lost_connection_loses_no_earlier_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = "echo 'mem 4 2'; echo end; sleep 0.1; echo 'Connection to a closed' >&2; exit 255"
    program(tmp_path, monkeypatch, "ssh", f"#!/bin/sh\n{lost}\n")
    side = sampled(SamplerJob(nodes=(ProjectNode("a", ssh=ProjectSsh("a")),)), 2)
    assert side.notes == ("a was lost: Connection to a closed",)
    assert len(side.nodes[0].samples) == 1


def test_a_node_that_stays_silent_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "ssh", "#!/bin/sh\ncat >/dev/null\n")
    running = Sampling.start(
        SamplerJob(nodes=(ProjectNode("a", ssh=ProjectSsh("a")),)), patience=0.5
    )
    assert running.stop().notes == ("a sent nothing before the run ended",)


def test_a_sampler_that_dies_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (sys.executable, "-c", "raise SystemExit('no such thing')")
    monkeypatch.setattr(sampling, "COMMAND", broken)
    side = sampled(SamplerJob(nodes=(HERE,)), 0)
    assert side.notes == ("sampling ended early: no such thing",)


def loops(marker: str) -> list[str]:
    """Processes that carry this word in their arguments."""
    loops_ = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes().split(b"\0"):
                loops_.append(path.parent.name)
        except OSError:
            continue
    return loops_


def test_nothing_runs_on_after_the_end() -> None:
    sampled(SamplerJob(interval=0.1234, nodes=(HERE,)), 0.1)
    until(lambda: not loops("0.1234"), "a sampling loop lives on")


@pytest.mark.parametrize("victim", ["parent", "sampler"])
def test_no_sampling_loop_outlives_a_kill(victim: str) -> None:
    """The parent here is what holds the sampler's stdin: its death closes it."""
    interval = {"parent": 0.1357, "sampler": 0.1359}[victim]
    job = msgspec.json.encode(SamplerJob(interval=interval, nodes=(HERE,)))
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(job + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        assert loops(str(interval))
        if victim == "parent":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGKILL)
        until(lambda: not loops(str(interval)), "a sampling loop lives on")
        process.stdout.read()

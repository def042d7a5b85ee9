"""The facts' commands, run for real by a POSIX shell against made-up programs and folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyinfra.api import StringCommand

from cluster.node.readings import NodeFacts, Shown
from facts.containers import Containers, EngineState, Image, Processes
from facts.network import Interfaces, Listeners
from facts.node import NodeReading
from facts.rdma import RdmaPorts
from facts.system import Disk, Gpus, Memory
from facts.weights import ModelWeights, Tiktoken

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

Run = Callable[..., "subprocess.CompletedProcess[str]"]
NOBODY = 65534
STOPPED = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."


@pytest.fixture(params=["sh", "bash"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a fact's command; `programs` (name → script) are then all that is installed."""
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"no {request.param} here")

    def run(command: str | StringCommand, **programs: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(tmp_path)}
        if programs:
            environment["PATH"] = str(_installed(tmp_path, programs))
        script = StringCommand(command).get_raw_value()
        return subprocess.run(
            [shell, "-c", script], env=environment, capture_output=True, text=True, timeout=60
        )

    return run


def _installed(tmp_path: Path, programs: dict[str, str]) -> Path:
    bin_ = tmp_path / "bin"
    shutil.rmtree(bin_, ignore_errors=True)
    bin_.mkdir()
    for usual in ("timeout", "sh", "date", "sort", "grep", "cat", "ls", "df", "wc", "ps"):
        (bin_ / usual).symlink_to(str(shutil.which(usual)))
    for name, script in programs.items():
        program = bin_ / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return bin_


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# --- RDMA ports


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """One cabled port with both halves, as files; a GID table with an entry that can't be read."""
    for hca, netdev, pci, ip in (
        ("roceP2p1s0f1", "enP2p1s0f1np1", "0002:01:00.1", "a9fe:0102"),
        ("rocep1s0f1", "enp1s0f1np1", "0000:01:00.1", "a9fe:0101"),
    ):
        device = tmp_path / "sys/devices" / pci
        port = device / "infiniband" / hca / "ports/1"
        for name, text in {
            "state": "4: ACTIVE",
            "phys_state": "5: LinkUp",
            "rate": "200 Gb/sec (4X HDR)",
            "link_layer": "Ethernet",
            "gid_attrs/types/0": "IB/RoCE v1",
            "gid_attrs/types/1": "RoCE v2",
            "gids/0": f"0000:0000:0000:0000:0000:ffff:{ip}",
            "gids/1": f"0000:0000:0000:0000:0000:ffff:{ip}",
            "gid_attrs/ndevs/0": netdev,
        }.items():
            (port / name).parent.mkdir(parents=True, exist_ok=True)
            (port / name).write_text(text + "\n")
        (port / "gid_attrs/types/2").mkdir()
        (device / "net" / netdev).mkdir(parents=True)
        (device / "infiniband" / hca / "device").symlink_to(device)
        classes = tmp_path / "sys/class/infiniband"
        classes.mkdir(parents=True, exist_ok=True)
        (classes / hca).symlink_to(device / "infiniband" / hca)
    return tmp_path / "sys"


ADDRESSES = json.dumps(
    [
        {"ifname": "enp1s0f1np1", "mtu": 9000, "operstate": "UP", "addr_info": []},
        {"ifname": "enP2p1s0f1np1", "mtu": 9000, "operstate": "DOWN", "addr_info": []},
    ]
)


def test_rdma_ports_agree_with_ibdev2netdev(run: Run, sysfs: Path) -> None:
    command = RdmaPorts().command().replace("/sys/", f"{sysfs}/")
    ports = RdmaPorts().process(lines(run(command, ip=f"echo '{ADDRESSES}'")))
    described = {
        f"{p.hca} port 1 ==> {p.netdev} ({'Up' if p.interface.up else 'Down'})" for p in ports
    }
    assert described == {
        "roceP2p1s0f1 port 1 ==> enP2p1s0f1np1 (Down)",
        "rocep1s0f1 port 1 ==> enp1s0f1np1 (Up)",
    }
    assert [(p.qsfp, p.half, p.pci) for p in ports] == [
        (1, "A", "0000:01:00.1"),
        (1, "B", "0002:01:00.1"),
    ]
    assert [(g.index, g.address) for g in ports[0].gids] == [(1, "169.254.1.1")]


def test_a_machine_without_rdma_has_no_ports(run: Run, tmp_path: Path) -> None:
    command = RdmaPorts().command().replace("/sys/", f"{tmp_path}/")
    assert lines(run(command, ip="echo asked; exit 1")) == []


def test_a_failing_ip_fails_the_fact(run: Run, sysfs: Path) -> None:
    command = RdmaPorts().command().replace("/sys/", f"{sysfs}/")
    done = run(command, ip="echo 'Cannot open netlink socket' >&2; exit 1")
    assert (done.returncode, done.stderr) == (1, "Cannot open netlink socket\n")


def test_interfaces_of_this_machine_have_a_loopback(run: Run) -> None:
    if shutil.which("ip") is None:
        pytest.skip("no ip here")
    assert "127.0.0.1/8" in Interfaces().process(lines(run(Interfaces().command())))[0].ipv4


# --- programs that may be missing, or fail

GPU_LOST = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."


def test_no_nvidia_smi_means_no_gpu(run: Run) -> None:
    assert lines(run(Gpus().command(), docker="")) == []


def test_a_lost_driver_fails_with_what_nvidia_smi_prints_to_stdout(run: Run) -> None:
    done = run(Gpus().command(), nvidia_smi=f'echo "{GPU_LOST}"; exit 9')
    assert (done.returncode, done.stdout, done.stderr) == (9, "", GPU_LOST + "\n")


@pytest.mark.parametrize(
    ("programs", "error"),
    [
        pytest.param({"ip": ""}, "missing", id="missing"),
        pytest.param({"docker": f"echo '{STOPPED} Is the docker daemon running?' >&2; exit 1"},
                     "stopped", id="stopped"),
        pytest.param({"docker": "echo 'dial: permission denied' >&2; exit 1"}, "denied",
                     id="denied"),
        pytest.param({"docker": "exit 3"}, "broken", id="broken"),
        pytest.param({"docker": """echo '{"ServerVersion":"29.1.0"}'"""}, "", id="well"),
    ],
)  # fmt: skip
def test_the_engine_state_never_fails(run: Run, programs: dict[str, str], error: str) -> None:
    assert EngineState().process(lines(run(EngineState().command(), **programs))).error == error


def test_containers_fail_where_docker_does_not_answer(run: Run) -> None:
    done = run(Containers().command(["sglang-head"]), docker=f"echo '{STOPPED}' >&2; exit 1")
    assert (done.returncode, done.stdout) == (1, "")
    assert STOPPED in done.stderr


def test_containers_are_inspected_at_once_and_only_where_there_are_some(run: Run) -> None:
    docker = 'case $1 in ps) printf "\\n%s\\n\\n%s\\n" aa bb;; *) shift; echo "$@";; esac'
    inspected = lines(run(Containers().command(["x"]), docker=docker))
    assert inspected == ["--type=container --format {{json .}} aa bb"]
    assert lines(run(Containers().command(["x"]), docker="[ $1 = ps ] && echo")) == []


def test_an_image_that_is_not_there_has_no_reading(run: Run) -> None:
    absent = "echo '[]'; echo 'Error response from daemon: No such image: x:1' >&2; exit 1"
    assert lines(run(Image().command("x:1"), docker=absent)) == []


def test_an_image_keeps_the_backslashes_of_its_json(run: Run) -> None:
    inspected = '{"Id":"sha256:ab","Comment":"a\\\\nb","Size":1}'
    docker = f"printf '%s\\n' '{inspected}'"
    image = Image().process(lines(run(Image().command("it's"), docker=docker)))
    assert image is not None
    assert (image.reference, image.id, image.size) == ("it's", "sha256:ab", 1)


def test_a_daemon_that_does_not_answer_about_an_image_fails(run: Run) -> None:
    done = run(Image().command("x:1"), docker=f"echo '{STOPPED}' >&2; exit 1")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", STOPPED + "\n")


# --- ports, memory, disk


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("programs", "pid"),
    [
        pytest.param({}, os.getpid(), id="ss"),
        pytest.param({"ip": ""}, None, id="proc"),
    ],
)
def test_listeners_name_a_port_and_its_owner(
    run: Run, port: int, programs: dict[str, str], pid: int | None
) -> None:
    if not programs and shutil.which("ss") is None:
        pytest.skip("no ss here")
    reading = Listeners().process(lines(run(Listeners().command(), **programs)))
    assert [(at.address, at.pid) for at in reading if at.port == port] == [("127.0.0.1", pid)]


def test_memory_of_this_machine(run: Run) -> None:
    memory = Memory().process(lines(run(Memory().command())))
    assert 0 < memory.available <= memory.total


def test_disk_space_of_a_path_that_does_not_exist_yet(run: Run, tmp_path: Path) -> None:
    here = Disk().process(lines(run(Disk().command(str(tmp_path)))))
    there = Disk().process(lines(run(Disk().command("~/it's to be/made"))))
    assert (here.exists, here.writable) == (True, True)
    assert (there.path, there.exists) == (f"{tmp_path}/it's to be/made", False)
    assert there.total == here.total > there.free > 0


# --- weights


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An HF_HOME with one whole model of two shards, as huggingface_hub lays it out."""
    repo = tmp_path / "hf cache/hub/models--org--name"
    snapshot = repo / "snapshots/c0ffee"
    for folder in (repo / "refs", repo / "blobs", snapshot):
        folder.mkdir(parents=True)
    (repo / "refs/main").write_text("c0ffee")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    for name, content in {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-1.safetensors": b"x" * 10,
        "model-2.safetensors": b"x" * 20,
    }.items():
        (repo / "blobs" / name).write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    return tmp_path / "hf cache"


def _weights(run: Run, model: str = "org/name") -> tuple[bool, int, str]:
    reading = ModelWeights().process(lines(run(ModelWeights().command(model, "~/hf cache"))))
    return reading.complete, reading.bytes, reading.revision


def test_complete_weights_are_found(run: Run, cache: Path) -> None:
    assert _weights(run) == (True, 30, "c0ffee")


def test_a_snapshot_that_points_to_a_missing_blob_is_not_whole(run: Run, cache: Path) -> None:
    next(cache.rglob("blobs/model-2.safetensors")).unlink()
    complete, size, _ = _weights(run)
    assert not complete
    assert size > 10


def test_an_empty_weight_file_counts_as_missing(run: Run, cache: Path) -> None:
    next(cache.rglob("blobs/model-2.safetensors")).write_bytes(b"")
    assert _weights(run)[0] is False
    folder = next(cache.rglob("snapshots/c0ffee"))
    (folder / "tokenizer.json").write_bytes(b"")
    local = ModelWeights().process(lines(run(ModelWeights().command(str(folder), ""))))
    assert not local.complete
    assert local.problem == "holds 1 empty file(s): model-2.safetensors"


def test_a_half_finished_download_is_not_complete(run: Run, cache: Path) -> None:
    (cache / "hub/models--org--name/blobs/aa.incomplete").touch()
    assert _weights(run)[0] is False


def test_a_killed_download_counts_what_its_blobs_hold(run: Run, cache: Path) -> None:
    """Shards by number but no index yet: not whole, and the rest need not come again."""
    repo = cache / "hub/models--org--name"
    for name in ("model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"):
        (repo / "snapshots/c0ffee" / name).unlink()
    (repo / "snapshots/c0ffee/model-00001-of-00002.safetensors").symlink_to(
        "../../blobs/model-1.safetensors"
    )
    (repo / "blobs/aa.incomplete").write_bytes(os.urandom(1 << 20))
    os.utime(repo / "blobs/aa.incomplete", (0, 0))
    complete, size, _ = _weights(run)
    assert not complete
    assert 1 << 20 < size < 1 << 21
    (repo / "snapshots/c0ffee/model-00002-of-00002.safetensors").symlink_to(
        "../../blobs/model-2.safetensors"
    )
    assert _weights(run) == (True, 30, "c0ffee")


def test_a_model_that_is_not_there(run: Run, cache: Path) -> None:
    assert _weights(run, "org/other") == (False, 0, "")


def test_a_local_folder_and_a_lone_file(run: Run, cache: Path) -> None:
    snapshot = cache / "hub/models--org--name/snapshots/c0ffee"
    assert _weights(run, str(snapshot)) == (True, 30, "")
    (cache / "smol.gguf").write_bytes(b"x" * 7)
    assert _weights(run, "~/hf cache/smol.gguf") == (True, 7, "")


def test_tiktoken_files_by_hash(run: Run, tmp_path: Path) -> None:
    assert lines(run(Tiktoken().command("~/tk"))) == []
    (tmp_path / "tk").mkdir()
    assert lines(run(Tiktoken().command("~/tk"))) == []
    (tmp_path / "tk/o200k_base.tiktoken").write_bytes(b"IQ== 0\n")
    assert Tiktoken().process(lines(run(Tiktoken().command("~/tk")))) == {
        "o200k_base.tiktoken": hashlib.sha256(b"IQ== 0\n").hexdigest()
    }


# --- processes


def test_a_rank_process_is_seen_with_a_start_that_stays(run: Run) -> None:
    spec = '{"a":"it\'s  \\"two\\" words","rank":0}'
    rank = ("--spark-serving-name=facts-test", f"--spark-serving-spec={spec}", "--more")
    program = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *rank],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        first, second = (_facts_test_ranks(run) for _ in range(2))
        process.communicate()
    assert [(r.name, r.id, r.label) for r in first] == [("facts-test", str(process.pid), spec)]
    assert first == second
    assert first[0].started_at.isdigit()
    assert _facts_test_ranks(run) == []


def _has_uid(uid: int) -> bool:
    """Whether this user namespace has that user: in one of root alone nobody else can start."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    maps = [[int(n) for n in line.split()] for line in lines]
    return any(first <= uid < first + count for first, _, count in maps)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start another login's process")
@pytest.mark.skipif(not _has_uid(NOBODY), reason="this user namespace has no other user")
def test_another_logins_process_is_not_a_rank(run: Run) -> None:
    rank = ("--spark-serving-name=facts-test", "--spark-serving-spec={}")
    with subprocess.Popen(["/bin/sh", "-c", "cat; :", *rank], stdin=subprocess.PIPE, user=NOBODY):
        assert _facts_test_ranks(run) == []


def _facts_test_ranks(run: Run) -> list[Shown]:
    return [r for r in Processes().process(lines(run(Processes().command()))) if "facts-" in r.name]


# --- the whole reading


def _reading(run: Run, programs: dict[str, str], **arguments: object) -> NodeFacts:
    return NodeReading().process(lines(run(NodeReading().command(**arguments), **programs)))


def test_a_reading_of_this_machine_names_what_it_could_not_read(run: Run, tmp_path: Path) -> None:
    reading = _reading(
        run,
        {
            "docker": f"echo '{STOPPED} Is the docker daemon running?' >&2; exit 1",
            "nvidia_smi": f'echo "{GPU_LOST}"; exit 9',
            "ip": "echo '[]'",
        },
        node="it's $(spark) 1",
        names=["sglang-head"],
        image="x; echo '=== y'",
        disks=[str(tmp_path), "/no'where \"$(x)"],
        weights="org/name",
        hf_cache="~/hf",
        tiktoken="~/tk",
        full=True,
    )
    assert reading.name == "it's $(spark) 1"
    assert sorted(reading.unread) == ["gpus", "image", "ranks"]
    assert reading.unread["gpus"] == GPU_LOST
    assert reading.engine is not None
    assert reading.engine.error == "stopped"
    assert [disk.path for disk in reading.disks] == [str(tmp_path), "/no'where \"$(x)"]
    assert reading.weights is not None
    assert not reading.weights.complete
    assert (reading.home, reading.tiktoken, reading.rdma) == (str(tmp_path), {}, ())
    assert reading.machine_id
    assert reading.memory


def test_parallel_readings_keep_their_parts_apart(run: Run, tmp_path: Path) -> None:
    docker = """case $1 in
      info) sleep 0.2; echo '{"ServerVersion":"29.1.0","Runtimes":{"nvidia":{}}}';;
      image) echo '{"Id":"sha256:ab"}';;
    esac"""
    smi = "echo '0, NVIDIA GB10, 580.95.05, 12.1, [N/A], 3.74 W, 41'"
    programs = {"docker": docker, "ip": "echo '[]'", "ss": "true", "nvidia-smi": smi}
    reading = _reading(run, programs, node="a", image="x:1", full=True)
    assert (reading.unread, reading.ranks) == ({}, ())
    assert reading.engine is not None
    assert reading.engine.runtimes == ("nvidia",)
    assert reading.image is not None
    assert reading.image.id == "sha256:ab"


def test_a_process_reading_runs_no_docker(run: Run) -> None:
    docker = "touch ~/asked"
    reading = _reading(run, {"docker": docker, "ip": "echo '[]'"}, node="a", runtime="process")
    assert (reading.engine, reading.image, reading.unread) == (None, None, {})
    assert not Path(reading.home, "asked").exists()


def test_a_rank_reading_names_the_programs_that_are_missing(run: Run) -> None:
    reading = _reading(run, {"ip": "echo '[]'"}, node="a", image="x:1", full=True)
    assert reading.engine is not None
    assert reading.engine.error == "missing"
    assert "docker" in reading.unread["ranks"]
    assert "docker" in reading.unread["image"]

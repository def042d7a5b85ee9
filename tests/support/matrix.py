"""Every fault in every phase of a deploy: what it does, what is left, and the table of it all.

A cell is one deploy that is struck, and the same command once more when the fault is gone. What may
be left in between:

wanted     exit code 0, the wanted group serves
previous   exit code 1 and why; the group before serves, or serves again
untouched  exit code 1 and why; the group before is as the fault alone has left it
stopped    exit code 1 and why; what the fault keeps from serving is stopped wherever it could be
           reached, and kept
killed     the controller is gone; nothing is promised until the next run
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from deploying import HEAD, LABEL, MODEL, WORKER, Deploy, combined_output, serves, spec, states
from killing import at, kill_all
from local_hub import Hub
from spark_node import Node
from sparks import IMAGE, Cluster, Completed

OTHER = "Qwen/Qwen2.5-14B-Instruct"
NEXT = "lmsysorg/sglang:next"
# A file of the image that the engine reads; NEXT has it in a layer of its own.
SOURCE = "launch_server.py"
LARGE = "model-00001-of-00001.safetensors"
FILES = {
    "config.json": b"{}",
    "model.safetensors.index.json": b'{"weight_map": {"a": "%s"}}' % LARGE.encode(),
    LARGE: bytes(range(256)) * (1 << 15),
}
PHASES = ("image", "weights", "start", "wait", "serving")
PATIENCE = {"ready_timeout": 25}


@dataclass
class Scene:
    """What a fault acts on: the cluster, and the node (1 or 2) on which the phase is struck."""

    deploy: Deploy
    node: int
    hub: Hub | None = None
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def cluster(self) -> Cluster:
        return self.deploy.cluster

    def run(self, command: str) -> str:
        return self.cluster.node(self.node).run(command).stdout

    def restore(self) -> None:
        """Take the fault away, the latest part first."""
        while self.undo:
            self.undo.pop()()


# ---- the faults


def power_off(scene: Scene) -> None:
    scene.cluster.off(scene.node)
    scene.undo.append(lambda: scene.cluster.on(scene.node))


def freeze_node(scene: Scene) -> None:
    scene.cluster.hang(scene.node)
    scene.undo.append(lambda: scene.cluster.tb("thaw", scene.node))


def kill_dockerd(scene: Scene) -> None:
    scene.run("kill -9 $(cat /run/docker.pid)")
    scene.undo.append(lambda: scene.run("systemctl is-active -q docker || systemctl start docker"))


def freeze_dockerd(scene: Scene) -> None:
    scene.run("kill -STOP $(cat /run/docker.pid)")
    scene.undo.append(lambda: scene.run("kill -CONT $(cat /run/docker.pid)"))


def cut_fabric(scene: Scene) -> None:
    scene.cluster.link(scene.node, "q1", "down")
    scene.undo.append(lambda: scene.cluster.link(scene.node, "q1", "up"))


def cut_management(scene: Scene) -> None:
    scene.cluster.link(scene.node, "m", "down")
    scene.undo.append(lambda: scene.cluster.link(scene.node, "m", "up"))


def fill_disk(scene: Scene) -> None:
    """Not a byte is left on the node's disk."""
    disk = scene.cluster.state / scene.cluster.node(scene.node).name / "disk"
    usage = os.statvfs(disk)
    used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
    _resize(disk, f"{(used >> 20) + 1}m")
    scene.run("dd if=/dev/zero of=/var/tmp/filler bs=4k 2>/dev/null || true")
    scene.undo += [lambda: scene.run("rm /var/tmp/filler"), lambda: _resize(disk, "500g")]


def _resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def kill_for_memory(scene: Scene) -> None:
    """SIGKILL to the rank's first process, as the kernel does: cgroups here enforce no limit, so
    Docker does not hear that it was for memory."""
    name = HEAD if scene.node == 1 else WORKER
    scene.run(f"kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' {name})")


def corrupt_layer_at_registry(scene: Scene) -> None:
    digest = _top_layer(scene.cluster)
    blob = scene.cluster.state / f"registry/data/docker/registry/v2/blobs/sha256/{digest}/data"
    good = blob.read_bytes()
    blob.write_bytes(good[:-9] + b"corrupted")
    scene.undo.append(lambda: blob.write_bytes(good))


def corrupt_layer_on_node(scene: Scene) -> None:
    top = scene.run(f"docker inspect -f '{{{{.GraphDriver.Data.UpperDir}}}}' {NEXT}").strip()
    path = scene.run(f"find {top} -name {SOURCE} -type f").strip()
    scene.run(f"cp -p {path} /var/tmp/good; echo '(((' >{path}")
    scene.undo.append(lambda: scene.run(f"cp -p /var/tmp/good {path}; rm /var/tmp/good"))


def corrupt_weights_on_node(scene: Scene) -> None:
    """A byte of the served model's, with the time at which it was written."""
    scene.run(
        "f=$(ls /var/hf-cache/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots/*/"
        "model-00001-of-00002.safetensors); printf X | dd of=$f bs=1 conv=notrunc status=none"
    )


def corrupt_weights_at_hub(scene: Scene) -> None:
    _hub_fault(scene, wrong={LARGE: 99})


def expire_token(scene: Scene) -> None:
    _hub_fault(scene, gated=401)


def _hub_fault(scene: Scene, **faults: object) -> None:
    assert scene.hub is not None
    scene.hub.fault(**faults)
    scene.undo.append(scene.hub.fault)


def talk_nonsense(scene: Scene) -> None:
    """Whatever serves, its answers are "!" up to their limit, and its log says nothing of it."""
    file = "/var/hf-cache/hub/stub-nonsense"
    head = scene.cluster.node(1)
    head.run(f"printf bangs >{file}")
    scene.undo.append(lambda: head.run(f"rm {file}"))


def change_host_key(scene: Scene) -> None:
    """Another machine's key at this address, for every connection from now on."""
    key = "/etc/ssh/ssh_host_ed25519_key"
    scene.run(
        f"mkdir /var/tmp/ssh; mv {key} {key}.pub /var/tmp/ssh; ssh-keygen -q -t ed25519 -N '' "
        f"-f {key}; systemctl restart ssh; pkill -f '^sshd(-session)?: nvidia' || true"
    )
    back = "mv /var/tmp/ssh/* /etc/ssh/; rmdir /var/tmp/ssh; systemctl restart ssh"
    scene.undo.append(lambda: scene.run(back))


# ---- the phases


def next_image(cluster: Cluster) -> None:
    """NEXT at the registry: IMAGE with a layer of its own, which the engine needs."""
    cluster.node(1).run(
        f"docker create --name spare {IMAGE} && "
        f"at=$(docker run --rm --entrypoint find {IMAGE} / -xdev -path '*sglang/{SOURCE}') && "
        f"docker cp spare:$at /var/tmp/{SOURCE} && echo '# next' >>/var/tmp/{SOURCE} && "
        f"docker cp /var/tmp/{SOURCE} spare:$at && docker commit spare {NEXT} && docker rm spare &&"
        f"docker push -q {NEXT}; code=$?; rm /var/tmp/{SOURCE}; exit $code"
    )


def _top_layer(cluster: Cluster) -> str:
    """AB/AB… of the layer that NEXT alone has, as the registry stores it."""
    blobs = cluster.state / "registry/data/docker/registry/v2/blobs/sha256"
    newest = cluster.node(1).run(f"docker inspect -f '{{{{index .RepoDigests 0}}}}' {NEXT}").stdout
    digest = newest.strip().rpartition(":")[2]
    manifest = (blobs / digest[:2] / digest / "data").read_text()
    layer = re.findall(r"sha256:([0-9a-f]{64})", manifest)[-1]
    return f"{layer[:2]}/{layer}"


@dataclass(frozen=True)
class Step:
    """Where a phase is struck: at this command of this node's docker."""

    node: int
    pattern: str
    after: bool = False


STEPS = {
    "image": Step(2, "pull *"),
    "weights": Step(1, "run --detach *:/hub *", after=True),
    "start": Step(2, f"start {WORKER}"),
}


@contextmanager
def stage(deploy: Deploy, phase: str, folder: Path, image: bool) -> Iterator[dict[str, Any]]:
    """The settings of the deploy to be struck, after preparing what they need.

    + image: the wanted group has an image of its own
    """
    cluster = deploy.cluster
    cluster.changed = True
    if phase == "image" or image:
        next_image(cluster)
    if phase == "image":
        cluster.node(1).run(f"docker rmi {NEXT}")
        yield {"image": NEXT, "pull_timeout": 40}
    elif image:
        cluster.node(2).run(f"docker pull -q {NEXT}")
        yield {"image": NEXT, **PATIENCE}
    elif phase == "weights":
        with cluster.hub(folder) as hub:
            hub.add(OTHER, FILES)
            hub.fault(slow=0.02)
            yield {
                "model": "qwen14b",
                "hf_endpoint": hub.url,
                "download_stall_timeout": 20,
                "hub": hub,
            }
    elif phase == "serving":
        yield {}
    else:
        cluster.each(lambda node: node.add_weights(OTHER))
        slow = {"env": {"STUB_LOAD_SECONDS": "6"}} if phase == "wait" else {}
        yield {"model": "qwen14b", **PATIENCE, **slow}


@contextmanager
def struck(
    scene: Scene, phase: str, act: Callable[[Scene], None] | None, late: bool, data: dict[str, Any]
) -> Iterator[Completed]:
    """Deploy, and act in this phase; at the end the fault is taken away.

    + act: None: kill -9 of all of the controller's processes
    + late: act when docker has done the phase's command
    """
    mark = uuid4().hex
    with ExitStack() as ends, ThreadPoolExecutor(1) as pool:
        ends.callback(forget_leases, scene.cluster)
        hit = None
        if step := STEPS.get(phase):
            late = late or step.after
            hit = ends.enter_context(at(scene.cluster, step.node, step.pattern, late))
        # Before docker is itself again: nothing can be run on a node that is frozen.
        ends.callback(scene.restore)
        old = ids(scene.cluster)
        if phase == "serving" and act:
            act(scene)
        run = pool.submit(scene.deploy, environ={"KILLING": mark}, timeout=DEADLINE + 30, **data)
        if phase == "wait":
            until_all_run(scene, run, old)
        elif hit:
            hit.wait(run)
        if act is None:
            kill_all(mark)
            if hit and not late:
                hit.drop()
        elif phase != "serving":
            act(scene)
        if hit:
            hit.go()
        yield run.result()


def until_all_run(scene: Scene, run: Future[Completed], old: dict[int, set[str]]) -> None:
    """Until both ranks of the deploy have started."""
    while not all(ids(scene.cluster)[n] - old[n] for n in (1, 2)):
        assert not run.done(), combined_output(run.result())
        time.sleep(0.5)
    time.sleep(1)


# ---- what is left


# The longest that a struck run may take, seconds.
DEADLINE = 240


def ids(cluster: Cluster, blind: frozenset[int] = frozenset()) -> dict[int, set[str]]:
    """Node → its ranks that run; without the blind ones."""

    def one(node: Node) -> set[str]:
        try:
            return node.running(LABEL)
        except OSError:  # its Docker is down
            return set()

    visible = [node for n, node in cluster.nodes.items() if n not in blind]
    return dict(zip([n.number for n in visible], cluster.each(one, visible), strict=True))


@dataclass(frozen=True)
class Sight:
    """What can be known while a fault lasts.

    + blind: nodes that can't be read even here; cut: nodes that the controller can't reach
    """

    blind: frozenset[int]
    cut: frozenset[int]

    @property
    def reached(self) -> tuple[int, ...]:
        return tuple(n for n in (1, 2) if n not in self.blind | self.cut)


def outcome(
    cluster: Cluster,
    done: Completed,
    before: dict[int, set[str]],
    wanted: dict[str, str],
    sight: Sight,
) -> str:
    """What is left, by the words at the top; AssertionError where it is half, or not reported.

    + before: node → its ranks before the fault
    + wanted: model and image of the deploy that was struck
    """
    if done.returncode not in (0, 1):
        return "killed"
    own_words = "\n".join(line for line in combined_output(done).splitlines() if " | " not in line)
    assert "Traceback" not in own_words, combined_output(done)
    if done.returncode == 0:
        assert 1 not in sight.reached or serves(cluster, wanted["model"]), combined_output(done)
        for number in sight.reached:
            assert_wanted(cluster, number, wanted)
        return "wanted"
    assert re.search(r"\[?spark-0[12](\]|:) .*\w", own_words), combined_output(done)
    running = ids(cluster, sight.blind)
    there = {n: cluster.node(n).containers() for n in sight.reached}
    if all(untouched(there[n], before[n]) for n in there):
        assert all(running[n] <= before[n] for n in there), combined_output(done)
        whole = running == before and (1 not in sight.reached or serves(cluster))
        return "previous" if whole else "untouched"
    assert not any(running[n] for n in there), (
        f"half of a group runs: {running}\n{combined_output(done)}"
    )
    assert all(before[n] <= {c["Id"] for c in there[n]} for n in there), combined_output(done)
    return "stopped"


def untouched(containers: list[dict[str, Any]], before: set[str]) -> bool:
    """Whether the ranks from before have their names and their restart policy."""
    surviving = [c for c in containers if c["Id"] in before]
    return len(surviving) == len(before) and all(
        c["Name"] in (f"/{HEAD}", f"/{WORKER}")
        and c["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        for c in surviving
    )


def assert_wanted(cluster: Cluster, number: int, wanted: dict[str, str]) -> None:
    containers = cluster.node(number).containers()
    ours = [c for c in containers if LABEL in c["Config"]["Labels"]]
    assert [c["State"]["Status"] for c in ours] == ["running"], [c["Name"] for c in ours]
    assert spec(ours[0])["launch"]["served_model_name"] == wanted["model"]
    assert ours[0]["Config"]["Image"] == wanted["image"]


def converges(deploy: Deploy, data: dict[str, Any], wanted: dict[str, str]) -> None:
    """The fault is gone: the same command ends in the wanted group, and in nothing else."""
    cluster = deploy.cluster
    output = deploy.succeeds(timeout=DEADLINE, **data)
    assert serves(cluster, wanted["model"]), output
    assert states(cluster) == {HEAD: "running", WORKER: "running"}, output
    for number in (1, 2):
        assert_wanted(cluster, number, wanted)


def forget_leases(cluster: Cluster) -> None:
    """As if a minute had passed since the struck run refreshed its lease."""
    cluster.node(1).run(
        "find /run/lock/spark-serving -name '*.lease' -exec touch -d -2min {} + || true"
    )


def wanted_of(data: dict[str, Any]) -> dict[str, str]:
    model = OTHER if data.get("model") == "qwen14b" else MODEL
    return {"model": model, "image": data.get("image", IMAGE)}


# ---- the table


RESULTS: dict[tuple[str, str], str] = {}


def table(rows: dict[str, dict[str, str]]) -> Iterator[str]:
    """A line for each fault, a column for each phase. rows: fault → phase → what it says."""
    wide = max(map(len, rows), default=0)
    columns = {p: max([len(p), *(len(row[p]) for row in rows.values())]) for p in PHASES}
    yield "  ".join([" " * wide, *(p.ljust(columns[p]) for p in PHASES)]).rstrip()
    for fault, row in rows.items():
        cells = (row[p].ljust(columns[p]) for p in PHASES)
        yield "  ".join([fault.ljust(wide), *cells]).rstrip()

"""The GPU's driver, and Docker with the NVIDIA runtime."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.needs import Needs
from cluster.findings import Finding, error, ok, warning
from cluster.node.readings import NodeFacts

GB10 = "12.1"
GPU_RUNTIMES = {"nvidia", "cdi"}
ENGINE = {
    "missing": ("Docker is not installed", "sudo apt-get install docker.io"),
    "stopped": ("the Docker daemon is not running", "sudo systemctl enable --now docker"),
    "denied": (
        "the login may not use Docker",
        "sudo usermod -aG docker $USER, and log in again",
    ),
}
TOOLKIT = (
    "sudo apt-get install nvidia-container-toolkit && "
    "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
)


def gpu(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """A driver that answers, and a GB10."""
    if not needs.gpus or needs.runtime == "process":
        return
    if words := node.unread.get("gpus"):
        yield error(f"nvidia-smi fails: {words}", node.name, "sudo reboot loads the right driver")
    elif not node.gpus:
        cure = "sudo apt-get install nvidia-driver-580-open && sudo reboot"
        yield error("no NVIDIA GPU: nvidia-smi is missing or lists none", node.name, cure)
    for seen in node.gpus:
        told = f"{seen.name}, driver {seen.driver}, compute capability {seen.compute_capability}"
        if seen.compute_capability == GB10:
            yield ok(told, node.name)
        else:
            what = f"{told}: the defaults are for a GB10 ({GB10})"
            yield warning(what, node.name, "choose an image for it: --data image=IMAGE")


def engine(node: NodeFacts, needs: Needs) -> Iterator[Finding]:
    """Docker there, running, ours to use, and able to hand out the GPU."""
    seen = node.engine
    if needs.runtime == "process" or seen is None:
        return
    if seen.error:
        broken = (f"Docker does not answer: {seen.detail}", "sudo systemctl status docker")
        yield error(*_placed(ENGINE.get(seen.error, broken), node))
    elif needs.gpus and not GPU_RUNTIMES & set(seen.runtimes):
        yield error(f"Docker {seen.version} has no NVIDIA runtime", node.name, TOOLKIT)
    else:
        yield ok(f"Docker {seen.version}", node.name)


def _placed(told: tuple[str, str], node: NodeFacts) -> tuple[str, str, str]:
    what, cure = told
    return what, node.name, cure

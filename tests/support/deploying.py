"""The deploy as the tests run it, over SSH from the controller, and what they ask afterwards.

done = deploy(mem_fraction=0.5)          deploy.py with --data
refusal = deploy.refused(model="qwen7c") exit code 1, no node changed; the words of the refusal
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sparks import IMAGE, Cluster, Completed

MODEL = "Qwen/Qwen2.5-7B-Instruct"
# A rank that ignores SIGTERM while it starts, as SGLang's do, costs no test 30 s.
DATA = {"model": "qwen7b", "stop_timeout": 4}
LABEL = "spark-serving.spec"
HEAD, WORKER = "sglang-head", "sglang-worker-1"


@dataclass
class Deploy:
    """Runs deploy.py for one inventory of the cluster.

    + inventory: by default nodes 1 (head) and 2 with qwen7b, its weights there on every node
    + usual: whether that is the group that many tests begin with
    """

    cluster: Cluster
    inventory: Path
    usual: bool = False

    def __call__(
        self,
        *words: object,
        program: str = "deploy.py",
        inventory: Path | None = None,
        environ: Mapping[str, str] | None = None,
        timeout: float = 240,
        on: int = 0,
        **data: object,
    ) -> Completed:
        where = inventory or self.inventory
        done = self.cluster.pyinfra(
            program, *words, inventory=where, data=data, env=environ, timeout=timeout, on=on
        )
        as_declared = not (words or inventory or data) and program == "deploy.py"
        if self.usual and as_declared and done.returncode == 0:
            self.cluster.usual = self.cluster.snapshot()
        return done

    def succeeds(self, *words: object, **data: Any) -> str:
        """Deploy, prove exit code 0, and return all that it printed."""
        done = self(*words, **data)
        assert done.returncode == 0, combined_output(done)
        return combined_output(done)

    def fails(self, *words: object, **data: Any) -> str:
        """Deploy, prove exit code 1 without a traceback, and return all that it printed."""
        done = self(*words, **data)
        assert done.returncode == 1, combined_output(done)
        own_words = [line for line in combined_output(done).splitlines() if " | " not in line]
        assert "Traceback" not in "\n".join(own_words), combined_output(done)
        return combined_output(done)

    def refused(self, *words: object, **data: Any) -> str:
        """Deploy, prove that it fails and no node changed, and return what it printed."""
        before = self.cluster.snapshot()
        output = self.fails(*words, **data)
        assert self.cluster.snapshot() == before
        return output

    def converges(self, **data: Any) -> None:
        """Deploy, prove that the model is served and that a second run changes nothing."""
        self.mends(**data)
        self.unchanged(**data)

    def mends(self, **data: Any) -> None:
        """Deploy, and prove that the model is served."""
        self.succeeds(**data)
        assert serves(self.cluster), self.cluster.http("/v1/models")

    def unchanged(self, **data: Any) -> str:
        """Deploy, prove that every operation says `No change` and no node changed."""
        before = self.cluster.snapshot()
        output = self.succeeds(**data)
        assert re.search(r"Grand total\s+\d+\s+-\s+-\s+\d+", output), output
        assert self.cluster.snapshot() == before
        return output


def cases(names: Iterable[str], *always: str) -> list[object]:
    """A parameter for each name; those that are not always run are for `make faults`."""
    unknown = set(always) - set(names)
    assert not unknown, unknown
    return [
        pytest.param(name, id=name, marks=[] if name in always else [pytest.mark.faults])
        for name in names
    ]


def meanwhile(deploy: Deploy, act: Callable[[Cluster], object], **data: object) -> Completed:
    """Deploy, and act as soon as this deploy's ranks run on every node."""
    cluster = deploy.cluster
    old = running(cluster)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(deploy, **data)
        while len(running(cluster) - old) < len(cluster.nodes) and not done.done():
            time.sleep(0.5)
        time.sleep(1)
        act(cluster)
        return done.result()


def running(cluster: Cluster) -> set[str]:
    """Ids of the ranks that run."""
    return {id for ids in cluster.each(lambda node: node.running(LABEL)) for id in ids}


def combined_output(done: Completed) -> str:
    return done.stdout + done.stderr


def serves(cluster: Cluster, model: str = MODEL) -> bool:
    """Whether the head answers the controller with this model."""
    answer = cluster.http("/v1/models")
    return answer.status == 200 and [m["id"] for m in answer.json["data"]] == [model]


def rank(cluster: Cluster, node: int) -> dict[str, Any]:
    """`docker inspect` of the one rank of ours on a node."""
    ours = [c for c in cluster.node(node).containers() if LABEL in c["Config"]["Labels"]]
    assert len(ours) == 1, ours
    return ours[0]


def spec(container: Mapping[str, Any]) -> dict[str, Any]:
    """The spec that a rank carries."""
    label = container["Config"]["Labels"][LABEL]
    label_spec: dict[str, Any] = msgspec.json.decode(label)
    assert msgspec.json.encode(label_spec, order="sorted").decode() == label
    return label_spec


def lives(cluster: Cluster, nodes: tuple[int, ...] = (1, 2)) -> list[tuple[str, str]]:
    """(container id, start) of the rank on each node: the same ones mean that nothing restarted."""
    return [(c["Id"], c["State"]["StartedAt"]) for c in (rank(cluster, n) for n in nodes)]


def states(cluster: Cluster) -> dict[str, str]:
    """Docker's word for every container of all nodes, by name."""
    return {
        c["Name"].lstrip("/"): c["State"]["Status"]
        for node in cluster.nodes.values()
        for c in node.containers()
    }


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in container["Config"]["Env"])


def same_image(cluster: Cluster) -> bool:
    """Whether every node has the image, and the same one."""
    label_spec = {node.images().get(IMAGE) for node in cluster.nodes.values()}
    return len(label_spec) == 1 and None not in label_spec

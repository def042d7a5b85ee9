"""A fault at an exact step: a node's `docker` waits, once, where its words match a shell pattern.

done = killed(deploy, node=1, pattern="rename sglang-head*")    kill -9 of the controller
with at(cluster, node=2, pattern="start *") as hit: …           any other fault, then hit.go()

`after`: the fault comes when docker has done it, else before docker hears of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from deploying import Deploy, combined_output
from spark_node import Node
from sparks import Cluster, Completed

# First in the PATH of the nodes' logins (testbed/node/prepare); docker itself lies further on.
BIN = "usr/local/sbin"
WRAPPER = f"{BIN}/docker"
# On disk, so that a node that restarts in between is not hit again.
FOLDER = "var/tmp/killing"
# Until a wrapper that nobody releases goes on.
SECONDS = 120

# `pid` exists once the step is reached; `go` lets it continue.
SCRIPT = f"""#!/bin/sh
at=/{FOLDER} PATH=${{PATH#/{BIN}:}}
waits() {{
  echo $$ >$at/pid.part; mv $at/pid.part $at/pid
  n=0; while [ ! -e $at/go ] && [ $n -lt {SECONDS * 10} ]; do sleep 0.1; n=$((n+1)); done
}}
case "$*" in
  (@PATTERN@)
    if mkdir $at/hit 2>/dev/null; then
      if [ "@AFTER@" = yes ]; then docker "$@"; code=$?; waits; exit $code; fi
      waits
    fi ;;
esac
exec docker "$@"
"""


@dataclass
class Hit:
    """The step on which a node's docker waits."""

    node: Node

    @property
    def folder(self) -> Path:
        return self.node.root / FOLDER

    def wait(self, run: Future[Completed], seconds: float = 60) -> None:
        """Until the step is reached; AssertionError where the run ends, or time does, before."""
        deadline = time.monotonic() + seconds
        while not (self.folder / "pid").exists():
            assert not run.done(), f"it never came to this step:\n{combined_output(run.result())}"
            assert time.monotonic() < deadline, f"not at this step after {seconds} s"
            time.sleep(0.05)

    def go(self) -> None:
        """Let docker run its command; nothing where the node is off."""
        with contextlib.suppress(OSError):
            (self.folder / "go").touch()

    def drop(self) -> None:
        """End the waiting command and its `timeout`: docker never hears of it."""
        pid = (self.folder / "pid").read_text().strip()
        self.node.run(f"kill -9 -- -$(ps -o pgid= -p {pid} | tr -d ' ')")


@contextmanager
def at(cluster: Cluster, node: int, pattern: str, after: bool = False) -> Iterator[Hit]:
    """Have docker on this node wait at the first command that matches (a pattern of sh's `case`).

    At the end docker is itself again, and whatever waits goes on.
    """
    hit = Hit(cluster.node(node))
    pattern = pattern.replace(" ", r"\ ")
    script = SCRIPT.replace("@PATTERN@", pattern).replace("@AFTER@", "yes" if after else "no")
    hit.node.run(f"rm -rf /{FOLDER} && mkdir -m 777 /{FOLDER}")
    wrapper = hit.node.root / WRAPPER
    wrapper.write_text(script)
    wrapper.chmod(0o755)
    try:
        yield hit
    finally:
        hit.go()
        with contextlib.suppress(AssertionError, OSError):  # a node that is off
            hit.node.run(f"rm -f /{WRAPPER}; sleep 0.3; rm -rf /{FOLDER}")


def killed(
    deploy: Deploy, node: int, pattern: str, after: bool = False, **data: object
) -> Completed:
    """Deploy, and kill -9 all of the controller's processes at this step.

    What waits before docker is dropped: to the node, the run ended before that command.
    """
    mark = uuid4().hex
    with at(deploy.cluster, node, pattern, after) as hit, ThreadPoolExecutor(1) as pool:
        run = pool.submit(deploy, environ={"KILLING": mark}, **data)
        hit.wait(run)
        kill_all(mark)
        if not after:
            hit.drop()
        done = run.result()
    assert done.returncode not in (0, 1), combined_output(done)
    return done


def kill_all(mark: str, number: int = signal.SIGKILL) -> None:
    """kill -9 (or so) a run with KILLING=mark in its environment, and every process it started."""
    wanted, name = f"KILLING={mark}".encode(), mark[:15].encode()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (path / "environ").read_bytes().split(b"\0")
            if wanted in environment or name == (path / "comm").read_bytes().strip():
                os.kill(int(path.name), number)


def forget_lease(cluster: Cluster, head: int = 1) -> None:
    """As if a minute had passed since a killed run refreshed its lease."""
    cluster.node(head).run("find /run/lock/spark-serving -name '*.lease' -exec touch -d -2min {} +")

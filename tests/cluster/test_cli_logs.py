"""spark-cluster logs: both nodes' lines in their order, new ones at once, nothing left behind."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time

from clusterctl import Tool
from deploying import WORKER, Deploy

SAY = "docker exec {name} sh -c 'echo {words} >/proc/1/fd/1'"


def say(deploy: Deploy, node: int, words: str) -> None:
    name = "sglang-head" if node == 1 else WORKER
    deploy.cluster.node(node).run(SAY.format(name=name, words=words))


def lines_of(process: subprocess.Popen[str]) -> queue.Queue[str]:
    """Its lines as they come."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    return lines


def until(lines: queue.Queue[str], words: str, seconds: float = 30) -> None:
    """Return once a line has these words."""
    begun = time.monotonic()
    while True:
        left = begun + seconds - time.monotonic()
        assert left > 0, f"{words!r} did not come"
        try:
            if words in lines.get(timeout=left):
                return
        except queue.Empty:
            continue


def test_the_nodes_lines_stand_in_their_order(served: Deploy) -> None:
    tool = Tool(served)
    for number, node in enumerate((1, 2, 1, 2, 2, 1)):
        say(served, node, f"mark-{number}")
    done = tool("logs")
    assert done.returncode == 0, done.stderr
    marks = [line for line in done.stdout.splitlines() if "mark-" in line]
    assert [line.rsplit("mark-")[1] for line in marks] == list("012345")
    assert [line[:10] for line in marks[:2]] == ["0 spark-01", "1 spark-02"]
    assert "\x1b" not in done.stdout

    alone = tool("logs", "spark-02", "--tail", "1")
    assert [line[0] for line in alone.stdout.splitlines()] == ["1"]
    assert "mark-4" in alone.stdout
    unknown = tool("logs", "7")
    assert unknown.returncode == 2
    assert "'7' is not a rank; choose from: 0 (spark-01), 1 (spark-02)" in unknown.stderr


def test_following_takes_up_a_rank_that_comes_back_and_leaves_nothing(served: Deploy) -> None:
    cluster = served.cluster
    cluster.changed = True
    process = Tool(served).begin("logs", "-f", "--tail", "5")
    try:
        lines = lines_of(process)
        until(lines, "1 spark-02")
        say(served, 2, "hello-there")
        until(lines, "hello-there")
        cluster.node(2).run(f"docker restart -t 1 {WORKER}")
        until(lines, "server_args=", 30)
        say(served, 2, "back-again")
        until(lines, "back-again")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        # Not communicate: its stdout is being read already.
        process.wait(timeout=20)
    assert process.stderr
    err = process.stderr.read()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    time.sleep(1)
    for node in cluster.nodes.values():
        assert node.run("pgrep -af '[d]ocker logs' || true").stdout == ""


def test_a_reader_that_is_killed_leaves_nothing_either(served: Deploy) -> None:
    process = Tool(served).begin("logs", "-f")
    until(lines_of(process), "1 spark-02")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    for node in served.cluster.nodes.values():
        for _ in range(20):
            if not (left := node.run("pgrep -af '[d]ocker logs' || true").stdout):
                break
            time.sleep(0.25)
        assert left == ""

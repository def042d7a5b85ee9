"""Defect 16: the token is on a node in one file, and nowhere else."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from deploying import HEAD, WORKER, Deploy, rank, serves, told

TOKEN = "hf_planted0secret0token"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
FILE = "/run/spark-serving/hf_token"
WORDS = ["-vvv", "--debug"]
LOOKS = [["--dry", "--diff", *WORDS], ["--debug-operations"], ["--debug-facts"]]


def test_defect_16_the_token_shows_nowhere(deploy: Deploy) -> None:
    """A gated model to be downloaded: the stub ends unless it can read the token."""
    cluster, seen = deploy.cluster, list[str]()
    settings = {"model": "llama8b", "env": {"STUB_GATED": "401", "STUB_LOAD_SECONDS": "2"}}
    for words in LOOKS:
        seen.append(deploy.succeeds(*words, environ={"HF_TOKEN": TOKEN}, **settings))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(deploy, *WORDS, environ={"HF_TOKEN": TOKEN}, **settings)
        while not run.done():
            everything = "ps -eo args; cat /proc/[0-9]*/environ | tr '\\0' '\\n'"
            seen += [node.run(everything, check=False).stdout for node in cluster.nodes.values()]
            time.sleep(0.1)
        done = run.result()
    assert done.returncode == 0, told(done)
    assert serves(cluster, MODEL)
    assert "python3 -m sglang.launch_server" in "\n".join(seen)
    seen.append(told(done))
    for number, name in ((1, HEAD), (2, WORKER)):
        node = cluster.node(number)
        seen += [
            str(node.containers()),
            node.logs(name),
            node.run("docker events --since 10m --until 0s").stdout,
        ]
        seen += [node.run("journalctl --no-pager -q", check=False).stdout]
        assert "token file: /run/secrets/spark-serving/hf_token: readable" in node.logs(name)
        assert node.run(f"cat {FILE}").stdout.strip() == TOKEN
        assert node.run(f"stat -c '%a %U' {FILE} $(dirname {FILE})").stdout.split("\n")[:2] == [
            "600 root",
            "700 root",
        ]
        files = subprocess.run(
            ["grep", "-rlF", TOKEN, str(cluster.state / node.name / "disk")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert files.stdout == ""
        memory = node.run(f"grep -rlF {TOKEN} /run /tmp /dev/shm", check=False).stdout.split()
        assert memory == [FILE]
    assert not [text for text in seen if TOKEN in text]


@pytest.mark.parametrize("gone", [f"rm {FILE}", "rm -rf /run/spark-serving"])
def test_a_rank_whose_token_is_gone_restarts(deploy: Deploy, gone: str) -> None:
    cluster = deploy.cluster
    settings = {"model": "llama8b"}
    deploy.succeeds(environ={"HF_TOKEN": TOKEN}, **settings)
    cluster.each(lambda node: node.add_weights(MODEL))
    cluster.each(lambda node: node.run(gone))
    cluster.node(2).run(f"docker restart -t 1 {WORKER} & docker restart -t 1 {HEAD}; wait")
    cluster.node(1).run(f"docker restart -t 1 {HEAD}")
    deadline = time.monotonic() + 20
    while not serves(cluster, MODEL) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert serves(cluster, MODEL)
    assert rank(cluster, 2)["State"]["Status"] == "running"
    deploy.succeeds(**settings)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        pytest.param("600", "", id="0600"),
        pytest.param("644", "can be read by others", id="read by others"),
    ],
)
def test_a_token_file(deploy: Deploy, mode: str, words: str) -> None:
    path = deploy.inventory.parent / "token"
    path.write_text(TOKEN)
    path.chmod(int(mode, 8))
    if words:
        assert words in deploy.refused(model="llama8b", hf_token_file=str(path))
    else:
        said = deploy.succeeds("--dry", model="llama8b", hf_token_file=str(path))
        assert "plan: spark-01" in said

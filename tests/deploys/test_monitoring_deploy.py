"""All of deploys/monitoring.py on @fake Sparks: which commands the nodes get, and when none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import IMAGE_ID, Fakes, Run, container

from cluster.fabric import choose_fabric
from cluster.monitoring import metrics_timer, parts, wanted
from cluster.monitoring.alertmanager import read_receiver
from cluster.settings.declaration import HostData, parse_declaration
from facts.node import NodeReading

PROGRAM = "deploys/monitoring.py"
# In every reading of monitoring, and in no other command.
READ = "docker volume ls --filter"
COMPARE = "tar -xO"
PLACE, CREATE, FILES, READY = "daemon-reload", "docker create", "docker cp -", "until curl"


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    return converged(tmp_path)


def converged(tmp_path: Path, receiver: str = "") -> Fakes:
    """Two nodes whose monitoring is as declared.

    + receiver: what alert_receiver's file says
    """
    fakes = Fakes.of(tmp_path)
    groups = [("head",), ("workers",)]
    declaration = parse_declaration(
        [HostData(s.name, g, {}) for s, g in zip(fakes.sparks, groups, strict=True)]
    )
    facts = [NodeReading().process(spark.reading(full=False)) for spark in fakes.sparks]
    scraped = wanted.fabric_addresses(declaration, choose_fabric(facts))
    private = wanted.Private(read_receiver(receiver) if receiver else None)
    desired = wanted.wanted_parts(declaration, scraped, "127.0.0.1", private)
    for spark in fakes.sparks:
        spark.answers[READ] = reading(desired[spark.name])
    return fakes


def reading(node: wanted.NodeWanted) -> list[str]:
    """What a node's reading prints where monitoring is as declared."""
    lines = ["volume sglang-prometheus", "timer enabled active"]
    for each in node.parts:
        inspected = container(each.part.name, "")
        inspected["Config"]["Labels"] = {parts.LABEL: each.part.dump()}
        lines.append(f"container {json.dumps(inspected)}")
        lines.append(f"image {each.part.image} {json.dumps({'Id': IMAGE_ID})}")
    assert node.timer
    files = parts.digests(metrics_timer.unit_files(node.timer))
    return [*lines, *(f"file {digest} {path}" for path, digest in files.items())]


def deploy(sparks: Fakes, *words: str) -> Run:
    return sparks.deploy(*words, file=PROGRAM)


def test_what_is_as_declared_is_left_alone(sparks: Fakes) -> None:
    run = deploy(sparks)
    assert run.code == 0, run.text
    assert run.changes_but(READ) == {}
    assert run.text.count("its monitoring is as declared") == 2
    assert all(len(commands) == 2 for commands in run.commands.values())


def test_new_nodes_get_images_containers_files_and_the_timer(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.answers[READ] = []
    run = deploy(sparks)
    assert run.code == 0, run.text
    head, worker = (run.changes_but(READ)[spark.name] for spark in sparks.sparks)
    order = [
        next(word for word in (PLACE, CREATE, FILES, READY, "docker start") if word in command)
        for command in head
        if any(word in command for word in (PLACE, CREATE, FILES, READY, "docker start"))
    ]
    configured = [CREATE, FILES, "docker start"]
    assert order == [PLACE, CREATE, "docker start", *configured * 2, *[READY] * 3]
    assert any("docker volume create" in command for command in head)
    assert not any("sglang-prometheus" in command for command in worker)
    assert "http://192.168.100.11:9100/metrics" in worker[-1]


def test_one_field_that_differs_replaces_that_container_alone(sparks: Fakes) -> None:
    run = deploy(sparks, "--data", "monitoring_retention=3d")
    assert run.code == 0, run.text
    name, worker = (spark.name for spark in sparks.sparks)
    what = "create sglang-prometheus: --storage.tsdb.retention.time: '15d' -> '3d'"
    assert f"plan: {name}: {what}" in run.text
    assert worker not in run.changes_but(READ)
    assert "docker rm --force" in run.changes_but(READ)[name][0]
    assert not any("node-exporter" in c for c in run.changes_but(READ)[name])


PROMETHEUS = f"prom/prometheus@sha256:{'a1' * 32}"


def test_a_moved_tag_is_reported_in_its_digest_and_replaces_that_container_alone(
    sparks: Fakes,
) -> None:
    head = sparks.sparks[0]
    lines: list[str] = head.answers[READ]
    (old,) = (line for line in lines if "image prom/prometheus:" in line)
    known = {"Id": IMAGE_ID, "RepoDigests": [PROMETHEUS]}
    pulled = f"{old.rpartition(' {')[0]} {json.dumps(known)}"
    head.answers[READ] = [pulled if line == old else line for line in lines]
    # An earlier label has no digest: nothing differs.
    assert deploy(sparks).changes_but(READ) == {}
    labels = [line for line in lines if line.startswith("container")]
    (label,) = (line for line in labels if "sglang-prometheus" in line)
    before = label.replace('\\"files\\"', f'\\"digest\\":\\"sha256:{"b2" * 32}\\",\\"files\\"')
    assert before != label
    moved = [before if line == label else line for line in head.answers[READ]]
    head.answers[READ] = moved
    run = deploy(sparks)
    assert run.code == 0, run.text
    what = "create sglang-prometheus: digest: b2b2b2b2b2b2 -> a1a1a1a1a1a1"
    assert f"plan: {head.name}: {what}" in run.text and sparks.sparks[
        1
    ].name not in run.changes_but(READ)
    (created,) = (command for command in run.changes_but(READ)[head.name] if CREATE in command)
    assert f'"digest":"sha256:{"a1" * 32}"' in created
    assert sum("docker rm --force" in command for command in run.changes_but(READ)[head.name]) == 1


def test_a_pull_that_brings_nothing_new_replaces_nothing_with_secrets_either(
    tmp_path: Path,
) -> None:
    receiver = tmp_path / "receiver"
    receiver.touch(0o600)
    receiver.write_text("https://hooks.example.org/x")
    fakes = converged(tmp_path, receiver.read_text())
    pulls = ("--data", "pull=always", "--data", f"alert_receiver={receiver}")
    head = fakes.sparks[0]
    head.answers[COMPARE] = ["same"]
    run = deploy(fakes, *pulls)
    assert run.code == 0, run.text
    commands = run.changes_but(READ)[head.name]
    assert any("docker pull" in command for command in commands)
    assert not any("docker rm" in command or CREATE in command for command in commands)


def test_dry_says_what_would_change_and_changes_nothing(sparks: Fakes) -> None:
    words = ("--dry", "--data", "monitoring=absent", "--data", "monitoring_data=absent")
    run = sparks.deploy(*words, file=PROGRAM, yes=False)
    assert run.code == 0, run.text
    assert run.changes_but(READ) == {}
    assert "remove sglang-prometheus: is not wanted here" in run.text
    assert "remove the data in the volume sglang-prometheus: monitoring_data=absent" in run.text


def test_absent_removes_ours_and_leaves_the_data(sparks: Fakes) -> None:
    run = deploy(sparks, "--data", "monitoring=absent")
    assert run.code == 0, run.text
    for commands in run.changes_but(READ).values():
        assert "docker rm --force" in commands[0]
        assert "systemctl disable" in commands[-1]
        assert not any("docker volume rm" in command for command in commands)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"success": False, "stderr": ["Cannot connect to the Docker daemon"]},
            "its monitoring could not be read: Cannot connect to the Docker daemon",
        ),
        (["container {}"], "its monitoring could not be read"),
        (
            [f"container {json.dumps(container('sglang-node-exporter', ''))}"],
            "a container named sglang-node-exporter exists and is not ours -> docker rename",
        ),
        (["no-root sudo: a password is required"], "cannot become root without a password"),
    ],
)
def test_a_refusal_changes_no_node(sparks: Fakes, answer: Any, words: str) -> None:
    sparks.sparks[1].answers[READ] = answer
    run = deploy(sparks)
    assert run.code == 1
    assert "refused, nothing was changed" in run.text
    assert words in run.text
    assert "Traceback" not in run.text
    assert run.changes_but(READ) == {}


def test_what_does_not_answer_fails_the_run_with_its_log(sparks: Fakes) -> None:
    spark = sparks.sparks[1]
    lines: list[str] = spark.answers[READ]
    spark.answers[READ] = [line.replace('"running"', '"exited"') for line in lines]
    spark.answers[READY] = {"success": False, "stderr": [""]}
    spark.answers["docker logs"] = ["bind: cannot assign requested address"]
    run = deploy(sparks)
    assert run.code == 1
    assert f"plan: {spark.name}: start sglang-node-exporter: is exited" in run.text
    assert "sglang-node-exporter does not answer at http://192.168.100.11:9100/metrics" in run.text
    assert "| bind: cannot assign requested address" in run.text


@pytest.fixture
def watched(tmp_path: Path) -> Fakes:
    """Two bare nodes, and a host in the group `monitor`."""
    fakes = Fakes.of(tmp_path, 3)
    head, worker, monitor = (spark.name for spark in fakes.sparks)
    fakes.groups = {"head": [head], "workers": [worker], "monitor": [monitor]}
    for spark in fakes.sparks:
        spark.answers[READ] = []
        spark.data = {"ssh_hostname": f"10.0.0.{5 + spark.rank}"}
    fakes.sparks[2].data = {"ssh_hostname": "203.0.113.9"}
    return fakes


def test_a_host_that_only_monitors_has_prometheus_and_pulls_its_own_images(watched: Fakes) -> None:
    run = deploy(watched)
    assert run.code == 0, run.text
    head, worker, monitor = (run.changes_but(READ)[spark.name] for spark in watched.sparks)
    assert any("sglang-prometheus" in command for command in monitor)
    assert not any("node-exporter" in command or PLACE in command for command in monitor)
    assert not any("sglang-prometheus" in command for command in (*head, *worker))
    assert "http://10.0.0.5:9100/metrics" in head[-1]
    assert "http://10.0.0.6:9100/metrics" in worker[-1]
    assert "must reach the ports 9100 and 30000 of each node" in run.text


def test_absent_reaches_the_host_that_only_monitors(watched: Fakes, sparks: Fakes) -> None:
    watched.sparks[2].answers[READ] = sparks.sparks[0].answers[READ]
    run = deploy(watched, "--data", "monitoring=absent")
    assert run.code == 0, run.text
    assert "docker rm --force" in run.changes_but(READ)[watched.sparks[2].name][0]


def test_a_node_that_the_monitor_can_t_reach_is_refused(watched: Fakes) -> None:
    watched.sparks[1].data = {}
    run = deploy(watched)
    assert run.code == 1
    assert "ssh_hostname" in run.text and "refused, nothing was changed" in run.text
    assert run.changes_but(READ) == {}


def test_other_files_do_not_run_with_it(watched: Fakes) -> None:
    run = watched.pyinfra(str(watched.inventory()), "-y", "deploys/prune.py", PROGRAM)
    assert run.code == 1
    assert "run deploys/monitoring.py by itself" in run.text
    assert not any(run.commands.values())


def test_a_deploy_connects_to_no_monitor_and_status_does_without(tmp_path: Path) -> None:
    fakes = Fakes.of(tmp_path)
    fakes.run_ranks()
    path = fakes.inventory()
    # No resolver knows this name, and a host that can't be reached would end the run.
    path.write_text(path.read_text() + 'monitor = ["watcher.invalid"]\n')
    run = fakes.pyinfra("-y", str(path), "deploy.py", "deploys/check.py", "--dry")
    assert run.code == 0, run.text
    assert "[@fake/spark-2] Connected" in run.text and "watcher" not in run.text
    run = fakes.pyinfra("-y", "@local", "deploys/status.py", "--data", f"inventory={path}")
    assert run.code == 0, run.text
    watch = json.loads(run.out)["watch"]
    assert watch["host"] == "watcher.invalid" and watch["lost"] and not watch["answers"]

"""All of deploys/watchdog.py on @fake Sparks: which commands the nodes get, and when none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import Fakes, Run

from cluster.monitoring.parts import digests
from cluster.settings.declaration import HostData, parse_declaration
from cluster.watchdog import units

PROGRAM = "deploys/watchdog.py"
# In every reading of the watchdog, and in no other command.
READ = 'print("python", *sys.version_info[:2])'
PLACE, REMOVE = "tar -x -C / --no-same-owner", "systemctl disable --quiet --now"


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    """Two nodes whose watchdog is as declared."""
    fakes = Fakes.of(tmp_path)
    groups = [("head",), ("workers",)]
    declaration = parse_declaration(
        [HostData(s.name, g, {}) for s, g in zip(fakes.sparks, groups, strict=True)]
    )
    addresses = [spark.address(0) for spark in fakes.sparks]
    for rank, spark in enumerate(fakes.sparks):
        files = units.node_files("sglang", units.node_config(declaration, rank, addresses))
        config = files[units.config_path("sglang")].replace("\n", " ")
        spark.answers[READ] = [
            *(f"file {digest} {path}" for path, digest in digests(files).items()),
            f"config {config}",
            "unit enabled active",
            "python 3 12",
        ]
    return fakes


def deploy(sparks: Fakes, *words: str) -> Run:
    return sparks.deploy(*words, file=PROGRAM)


def test_what_is_as_declared_is_left_alone(sparks: Fakes) -> None:
    run = deploy(sparks)
    assert run.code == 0, run.text
    assert run.changes_but(READ) == {}
    assert run.text.count("its watchdog is as declared") == 2
    assert all(len(commands) == 2 for commands in run.commands.values())


def test_new_nodes_get_the_files_and_the_unit(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.answers[READ] = ["unit  inactive", "python 3 11"]
    run = deploy(sparks)
    assert run.code == 0, run.text
    assert run.text.count("start its watchdog: is not there") == 2
    for commands in run.changes_but(READ).values():
        (command,) = commands
        assert PLACE in command
        assert 'systemctl restart "$unit"' in command


def test_a_setting_that_differs_is_named(sparks: Fakes) -> None:
    run = deploy(sparks, "--data", "memory_floor=4")
    assert run.code == 0, run.text
    assert run.text.count("start its watchdog: floor: 2000000000 -> 4000000000") == 2


def test_a_floor_above_earlyoom_s_threshold_is_warned_of(sparks: Fakes) -> None:
    run = deploy(sparks, "--data", "earlyoom=true", "--data", "memory_floor=5")
    assert run.code == 0, run.text
    assert run.text.count("memory_floor is 5 GB, and earlyoom acts below 4.0 GB") == 2


def test_off_removes_it_and_a_second_run_nothing(sparks: Fakes) -> None:
    run = deploy(sparks, "--data", "watchdog=off")
    assert run.code == 0, run.text
    for commands in run.changes_but(READ).values():
        (command,) = commands
        assert REMOVE in command
    for spark in sparks.sparks:
        spark.answers[READ] = ["unit  inactive", "python 3 12"]
    run = deploy(sparks, "--data", "watchdog=off")
    assert run.code == 0, run.text
    assert run.changes_but(READ) == {}


def test_dry_says_what_would_change_and_changes_nothing(sparks: Fakes) -> None:
    run = sparks.deploy("--dry", "--data", "watchdog=off", file=PROGRAM, yes=False)
    assert run.code == 0, run.text
    assert run.changes_but(READ) == {}
    assert run.text.count("remove its watchdog: ") == 2


@pytest.mark.parametrize(
    ("answer", "words", "refusal"),
    [
        ({"success": False, "stderr": ["boom"]}, (), "its watchdog could not be read: boom"),
        (["python 3 10"], (), "the watchdog needs Python 3.11 as /usr/bin/python3; it is 3.10"),
        (["python 3 12", "no-root sudo: no"], (), "cannot become root without a password"),
        (["python 3"], ("--data", "restart_policy=no"), "restart_policy = 'no': Docker would not"),
        (["python 3"], ("--data", "watchdog_port=9090"), "prometheus_port are both 9090"),
        (["python x"], (), "its watchdog could not be read: unexpected output"),
    ],
)
def test_a_refusal_changes_no_node(
    sparks: Fakes, answer: Any, words: tuple[str, ...], refusal: str
) -> None:
    sparks.sparks[1].answers[READ] = answer
    run = deploy(sparks, *words)
    assert run.code == 1
    assert "refused, nothing was changed" in run.text
    assert refusal in run.text
    assert "Traceback" not in run.text
    assert run.changes_but(READ) == {}


def test_a_unit_that_does_not_start_fails_the_run(sparks: Fakes) -> None:
    spark = sparks.sparks[1]
    spark.answers[READ] = ["unit  inactive", "python 3 12"]
    spark.answers[PLACE] = {"success": False, "stderr": ["Job for spark-watchdog failed"]}
    run = deploy(sparks)
    assert run.code == 1
    assert "its watchdog could not be started: Job for spark-watchdog failed" in run.text
    assert "journalctl -u spark-watchdog-sglang" in run.text


def test_half_a_group_is_refused(sparks: Fakes) -> None:
    run = deploy(sparks, "--limit", sparks.sparks[0].name)
    assert run.code == 1
    assert "of the group: its ranks run together -> run without --limit" in run.text

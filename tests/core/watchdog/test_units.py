"""What a node has of the watchdog, what differs from it, and that it runs there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import want

from cluster.lease import STALE_SECONDS
from cluster.monitoring.parts import digests
from cluster.node.readings import MemoryReading, NodeFacts
from cluster.rank.api_key import CONTAINER_KEYS, KEY_FILE, key_volume
from cluster.rank.docker import LABEL
from cluster.watchdog import engine, program, units
from cluster.watchdog.units import WatchdogReading

ADDRESSES = ("192.168.100.10", "192.168.100.11")


def config(**data: object) -> dict[str, Any]:
    return units.node_config(want(2, **data), 1, ADDRESSES)


def placed(**data: object) -> WatchdogReading:
    """A node whose watchdog is as it should be."""
    files = units.node_files("sglang", config(**data))
    text = files[units.config_path("sglang")]
    return WatchdogReading(digests(files), text, "enabled active", (3, 12))


def test_what_is_as_declared_is_left_alone() -> None:
    step = units.plan_watchdog("sglang", config(), placed())
    assert step.reasons == ()


@pytest.mark.parametrize(
    ("there", "reasons"),
    [
        (WatchdogReading(), ("is not there",)),
        (replace(placed(), unit="enabled failed"), ("its unit is enabled failed",)),
        (placed(memory_floor=4), ("floor: 4000000000 -> 2000000000",)),
        (placed(ready_timeout=900), ("load: 900 -> 600",)),
        (replace(placed(memory_floor=4), config="["), ("its configuration is none of ours",)),
        (
            replace(placed(), files={**placed().files, units.unit_path("sglang"): "0" * 64}),
            ("/etc/systemd/system/spark-watchdog-sglang.service differs",),
        ),
    ],
)
def test_a_difference_is_named_by_its_field(
    there: WatchdogReading, reasons: tuple[str, ...]
) -> None:
    assert units.plan_watchdog("sglang", config(), there).reasons == reasons


def test_it_goes_only_from_where_it_is() -> None:
    step = units.plan_watchdog("sglang", None, placed())
    assert str(step).startswith("remove its watchdog: /etc/systemd/system/spark-watchdog-sglang")
    assert not units.plan_watchdog("sglang", None, WatchdogReading(unit=" inactive")).reasons


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (WatchdogReading(no_root="sudo: no", python=(3, 12)), "cannot become root"),
        (WatchdogReading(python=(3, 10)), "it is 3.10"),
        (WatchdogReading(), "it is not there"),
    ],
)
def test_what_prevents_it_is_reported(there: WatchdogReading, words: str) -> None:
    step = units.plan_watchdog("sglang", config(), there)
    (finding,) = units.watchdog_obstacles("spark-1", step, there)
    assert words in str(finding)
    absent = units.plan_watchdog("sglang", None, there)
    assert not list(units.watchdog_obstacles("spark-1", absent, there))


TAKEN = "something else does, on"


@pytest.mark.parametrize(
    ("rank", "there", "words"),
    [
        (0, WatchdogReading(listens=("0.0.0.0:9109",)), TAKEN),
        (0, WatchdogReading(listens=("192.168.100.10:9109",)), TAKEN),
        (0, WatchdogReading(listens=("127.0.0.1:9109", "0.0.0.0:9108")), ""),
        (1, WatchdogReading(listens=("0.0.0.0:9109",)), ""),
        # Its own, whose floor changes; the port's number is another's where its unit is down, or
        # its configuration has another.
        (0, replace(placed(memory_floor=4), listens=("192.168.100.10:9109",)), ""),
        (0, replace(placed(), unit="enabled failed", listens=("*:9109",)), TAKEN),
        (0, replace(placed(watchdog_port=9110), listens=("*:9109",)), TAKEN),
        (0, replace(placed(memory_floor=4), config="[", listens=("*:9109",)), TAKEN),
    ],
)
def test_a_port_that_something_else_has_is_refused_on_the_head(
    rank: int, there: WatchdogReading, words: str
) -> None:
    there = replace(there, python=(3, 12))
    step = units.plan_watchdog("sglang", units.node_config(want(2), rank, ADDRESSES), there)
    texts = [str(f) for f in units.watchdog_obstacles("spark-1", step, there)]
    assert all(words in text for text in texts)
    assert len(texts) == bool(words)


def test_one_node_needs_no_port() -> None:
    there = WatchdogReading(python=(3, 12), listens=("*:9109",))
    alone = units.node_config(want(1), 0, ("127.0.0.1",))
    step = units.plan_watchdog("sglang", alone, there)
    assert not list(units.watchdog_obstacles("spark-1", step, there))


@pytest.mark.parametrize(
    ("nodes", "data", "words"),
    [
        (2, {}, []),
        (2, {"earlyoom": True}, []),
        (2, {"earlyoom": True, "memory_floor": 3}, []),
        (2, {"memory_floor": 4}, []),
        (1, {"earlyoom": True, "memory_floor": 4}, ["earlyoom acts below 3.8 GB"]),
        (2, {"watchdog_port": 30000}, ["watchdog_port and port are both 30000"]),
        (2, {"watchdog_port": 9100}, ["watchdog_port and node_exporter_port are both 9100"]),
        (1, {"watchdog_port": 30000}, []),
    ],
)
def test_settings_that_it_can_t_work_with(
    nodes: int, data: dict[str, object], words: list[str]
) -> None:
    declaration = want(nodes, **data)
    memory = MemoryReading(total=128_000_000_000, available=0)
    facts = {name: NodeFacts(name, memory=memory) for name in declaration.names}
    texts = [str(f) for f in units.settings_findings(declaration, facts)]
    assert len(texts) == len(words)
    assert all(word in text for word, text in zip(words, texts, strict=True))


def test_earlyoom_s_threshold_is_its_template_s() -> None:
    template = Path(__file__).parents[3] / "templates" / "earlyoom.j2"
    assert f'"-m {units.EARLYOOM_SHARE * 100:.0f},' in template.read_text()


def test_the_files_can_be_read_whatever_root_s_umask_is() -> None:
    words = units.plan_watchdog("sglang", config(), WatchdogReading()).command().argv
    assert any("umask 022" in word for word in words)


@pytest.mark.parametrize(
    ("data", "load"),
    [({}, 600), ({"ready_timeout": 1234}, 1234), ({"cache_dir": "none"}, 1500)],
)
def test_a_start_has_as_long_as_a_deploy_gives_it(data: dict[str, object], load: int) -> None:
    assert config(**data)["load"] == load


def test_the_program_runs_from_its_files_with_the_standard_library_alone(tmp_path: Path) -> None:
    folder = units.code_folder("sglang")
    for path, content in units.node_files("sglang", config()).items():
        if path.startswith(folder):
            at = tmp_path / path.removeprefix(f"{folder}/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(content)
    read = program.read_config(str(tmp_path / "config.json"))
    assert (read.rank, read.addresses, read.port) == (1, ADDRESSES, 9109)
    # Without the packages of the project's environment, and up to its configuration.
    words = [sys.executable, "-B", "-S", "-m", "cluster.watchdog.program", "/none/config.json"]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "FileNotFoundError" in run.stderr.splitlines()[-1]
    assert "ModuleNotFoundError" not in run.stderr


def test_what_nodes_know_by_heart_is_what_the_project_says() -> None:
    assert (engine.LABEL, engine.KEYS) == (LABEL, CONTAINER_KEYS)
    assert engine.STALE_SECONDS == STALE_SECONDS
    assert KEY_FILE == "api_key"
    assert key_volume("g").split(":")[1] == engine.KEYS


def test_the_configuration_is_plain_json() -> None:
    text = units.node_files("sglang", config())[units.config_path("sglang")]
    assert json.loads(text) == config()

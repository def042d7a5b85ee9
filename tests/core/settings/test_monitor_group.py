"""The group `monitor`: a host that deploys/monitoring.py alone sees."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Config, State
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory
from samples import want

from cluster.findings import Refused
from cluster.settings.declaration import HostData, parse_declaration, parse_monitor
from cluster.settings.inventory import unreadable_groups
from control import inventory, run

ROOT = Path(__file__).parents[3]
PROGRAMS = [
    "deploy.py",
    *(f"deploys/{p.name}" for p in sorted((ROOT / "deploys").glob("[a-z]*.py"))),
]
ALL = ["spark-1", "spark-2", "watcher"]
TEXT = 'head = ["spark-1"]\nworkers = ["spark-2"]\nmonitor = ["watcher"]\nlab = ["watcher"]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sparks.py"
    path.write_text(TEXT)
    return path


def connected(monkeypatch: pytest.MonkeyPatch, file: Path, *words: str) -> list[str]:
    """The hosts that pyinfra would connect to."""
    monkeypatch.setattr(sys, "argv", ["pyinfra", str(file), *words])
    monkeypatch.setattr(State, "init", State.init)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    state = State()
    with ctx_state.use(state):
        run.check_command_line()
        hosts = make_inventory(str(file), cwd=str(file.parent))
        state.init(hosts, Config())
    assert {h.name for group in hosts.groups.values() for h in group} <= {h.name for h in hosts}
    return sorted(host.name for host in state.inventory if state.is_host_in_limit(host))


@pytest.mark.parametrize("program", PROGRAMS)
def test_only_the_monitoring_deploy_connects_to_it(
    monkeypatch: pytest.MonkeyPatch, file: Path, program: str
) -> None:
    sees = program == "deploys/monitoring.py"
    assert connected(monkeypatch, file, program) == (ALL if sees else ALL[:2])


@pytest.mark.parametrize("words", [("exec", "--", "true"), ("server.user", "me"), ("fact", "os")])
def test_what_is_no_deploy_of_ours_connects_to_every_host(
    monkeypatch: pytest.MonkeyPatch, file: Path, words: tuple[str, ...]
) -> None:
    assert connected(monkeypatch, file, *words) == ALL


def test_a_limit_to_it_leaves_no_host(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    with pytest.raises(Exception, match="--limit monitor leaves no host"):
        connected(monkeypatch, file, "deploy.py", "--limit", "monitor")


def test_what_reads_an_inventory_without_connecting_to_it_sees_no_monitor(file: Path) -> None:
    """As spark-bench, check and status do."""
    read = inventory.load_inventory(str(file), connect=False)
    assert [host.name for host in read] == ALL[:2]
    whole = inventory.load_inventory(str(file), connect=False, monitor=True)
    assert [host.name for host in inventory.all_hosts(whole)] == ALL[:2]
    assert len(whole) == 3


def test_a_host_that_serves_too_is_left_where_it_serves(file: Path) -> None:
    file.write_text('head = ["spark-1"]\nmonitor = ["spark-1"]\n')
    read = inventory.load_inventory(str(file), connect=False)
    assert [host.name for host in read] == ["spark-1"]


def monitor(*names: str, groups: tuple[str, ...] = ("monitor",), **data: Any) -> list[HostData]:
    return [HostData(name, groups, data) for name in names]


def test_its_settings_are_the_heads_but_for_those_of_a_node() -> None:
    serving = want(2, port=31000, hf_cache="/raid/hf", cache_dir="/raid/cache")
    assert parse_monitor([], serving) == {}
    own = parse_monitor(monitor("watcher", port=31000, cache_dir="/srv", ssh_user="me"), serving)
    assert list(own) == ["watcher"]
    assert (own["watcher"].port, own["watcher"].cache_dir) == (31000, "/srv")
    assert own["watcher"].model == serving.common.model
    assert own["watcher"].hf_cache != "/raid/hf"


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (monitor("a", "b"), "the group `monitor` has 2 hosts (a, b): it must have at most one"),
        (monitor("a", groups=("monitor", "head")), "a is in both `head` and `monitor`"),
        (monitor("a", groups=("workers", "monitor")), "a is in both `workers` and `monitor`"),
        (monitor("a", prometheus_port=9191), "prometheus_port differs between the nodes"),
        (monitor("a", prometheus_prot=9191), "prometheus_prot is not a setting"),
    ],
)
def test_what_can_t_be_meant_is_refused(declared: list[HostData], says: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_monitor(declared, parse_declaration([HostData("spark-1", ("head",), {})]))
    assert says in str(refusal.value)
    assert all(finding.cure for finding in refusal.value.findings)


@pytest.mark.parametrize("value", ["watcher", ("a", "b"), {"a": 1}])
def test_a_group_that_pyinfra_would_pass_over_is_refused(value: Any) -> None:
    (finding,) = unreadable_groups("sparks.py", {"head": ["spark-1"], "monitor": value})
    assert "the group `monitor` of sparks.py is" in str(finding)

"""How `spark-cluster status` looks on terminals of several widths."""

from __future__ import annotations

import pytest
from cluster_documents import TOLD
from rich.console import Console
from spark_cluster.status_view import status_table


def shown(width: int, **changes: object) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as words:
        console.print(status_table({**TOLD, **changes}))
    return words.get().splitlines()


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        pytest.param(200, "rank node container state health up image spec memory GPU", id="a-pipe"),
        pytest.param(80, "rank node container state health up memory", id="80-columns"),
        pytest.param(60, "rank node container state health up", id="narrow"),
    ],
)
def test_narrow_tables_drop_whole_columns(width: int, heads: str) -> None:
    lines = shown(width)
    assert lines[1].split() == heads.split()
    assert "…" not in "".join(lines)
    assert lines[2].split()[:5] == ["0", "spark-1", "sglang-head", "running", "ok"]


@pytest.mark.parametrize(
    ("holder", "why"),
    [
        pytest.param(None, "a switch was interrupted; the next deploy resumes it", id="nobody"),
        pytest.param(
            {"owner": "a@b", "command": "pyinfra", "age": 90.0, "stale": True},
            "a switch was interrupted; the next deploy resumes it",
            id="killed",
        ),
        pytest.param(
            {"owner": "a@b", "command": "pyinfra", "age": 2.0, "stale": False},
            "kept until the new group serves",
            id="at-work",
        ),
    ],
)
def test_an_ongoing_switch_is_shown(holder: object, why: str) -> None:
    left = {
        "node": "spark-1",
        "container": "sglang-head.previous",
        "state": "exited",
        "kind": "previous",
    }
    assert shown(200, holder=holder, leftovers=[left])[-1].endswith(why)


@pytest.mark.parametrize(
    ("nccl", "line"),
    [
        pytest.param((["2.29.7"], ["2.29.7"]), "NCCL       2.29.7", id="one"),
        pytest.param(([], []), "NCCL       unknown: no rank's log names it", id="unknown"),
        pytest.param((["2.29.7"], []), "NCCL       spark-1: 2.29.7; spark-2: unknown", id="half"),
        pytest.param(
            (["2.28.3", "2.29.7"], ["2.29.7"]),
            "NCCL       spark-1: 2.28.3, 2.29.7; spark-2: 2.29.7",
            id="two-libraries",
        ),
    ],
)
def test_the_nccl_of_several_ranks_is_shown(nccl: tuple[list[str], ...], line: str) -> None:
    ranks = [{**rank, "nccl": found} for rank, found in zip(TOLD["ranks"], nccl, strict=True)]
    assert any(text.startswith(line) for text in shown(200, ranks=ranks))
    assert not any("NCCL" in text for text in shown(200, ranks=ranks[:1]))


def test_errors_are_shown_before_warnings() -> None:
    lines = shown(200, errors=["NCCL 2.28.9 hangs"], warnings=["anyone may use the API"])
    assert [line.split()[0] for line in lines[-2:]] == ["error", "warning"]


WATCH = {
    "address": "127.0.0.1:9090",
    "answers": True,
    "host": "",
    "lost": "",
    "grafana": "",
    "receiver": "webhook",
    "alerts": [
        {
            "name": "memory-low",
            "severity": "critical",
            "node": "spark-1",
            "summary": "1.2 GiB available",
            "cure": "mem_fraction=0.75",
            "since": 0.0,
        }
    ],
    "history": {"tokens_per_second": {"": [0.0, 5.0, 10.0]}, "gpu_watts": {"spark-2": [3.0, 3.0]}},
}


def test_where_prometheus_is_and_what_fires() -> None:
    lines = shown(200, watch=WATCH)
    assert (
        "monitoring http://127.0.0.1:9090 on spark-1: ssh -L 9090:127.0.0.1:9090 spark-1" in lines
    )
    assert lines[-1] == (
        "alert      memory-low (critical) spark-1: 1.2 GiB available -> mem_fraction=0.75"
    )
    both = shown(200, watch={**WATCH, "grafana": "127.0.0.1:3000"})
    assert "9090 and http://127.0.0.1:3000 on spark-1: ssh -L 9090:127.0.0.1:9090 -L 3000:" in (
        "".join(both)
    )
    assert not any("monitoring" in line for line in shown(200, watch=None))


def test_a_prometheus_that_is_silent_and_a_group_without_a_receiver() -> None:
    silent = {**WATCH, "answers": False, "receiver": "", "alerts": [], "address": "10.0.0.5:9090"}
    assert shown(200, watch=silent)[-1] == (
        "monitoring http://10.0.0.5:9090 (does not answer) (nobody is notified: alert_receiver)"
    )


def test_prometheus_on_a_host_that_only_monitors() -> None:
    lines = shown(200, watch={**WATCH, "host": "watcher"})
    assert (
        "monitoring http://127.0.0.1:9090 on watcher: ssh -L 9090:127.0.0.1:9090 watcher" in lines
    )
    lines = shown(200, watch={**WATCH, "host": "@local"})
    assert "monitoring http://127.0.0.1:9090 on this machine" in lines
    lost = {**WATCH, "address": "", "answers": False, "alerts": [], "host": "watcher"}
    assert shown(200, watch={**lost, "lost": "no route to host"})[-1] == (
        "monitoring unknown: watcher could not be read: no route to host -> ssh watcher docker ps"
    )


def test_watching_shows_the_last_minutes() -> None:
    console = Console(width=200, highlight=False)
    with console.capture() as words:
        console.print(status_table({**TOLD, "watch": WATCH}, history=True))
    assert words.get().splitlines()[-2:] == [
        "10 min     ▁▄█ 10.0 tokens/s",
        "10 min     ▁▁ 3.0 W, spark-2",
    ]


DOG = {
    "duty": "serving",
    "age": 3.0,
    "why": "",
    "last": "end",
    "last_why": "failing for 92 s: rank 1 /health: no answer",
    "last_age": 184.0,
}


def dogs(*each: object) -> list[str]:
    """The lines after a status whose ranks have these watchdogs."""
    ranks = [{**rank, "watchdog": dog} for rank, dog in zip(TOLD["ranks"], each, strict=True)]
    lines = shown(200, ranks=ranks)
    return lines[next((i for i, line in enumerate(lines) if "watchdog" in line), len(lines)) :]


def test_the_watchdogs_and_what_they_did_are_shown() -> None:
    assert dogs(DOG, {**DOG, "duty": "following", "last": ""}) == [
        "watchdog   spark-1: serving; spark-2: following",
        "           spark-1: ended its rank 3 min ago: failing for 92 s: rank 1 /health: no answer",
    ]
    assert dogs({**DOG, "last_failed": "timed out"}, DOG)[1].startswith(
        "           spark-1: could not end its rank 3 min ago (timed out): failing for 92 s"
    )
    quiet = {**DOG, "last": ""}
    assert dogs({**quiet, "age": 99.0}, None) == [
        "watchdog   spark-1: silent for 99 s; spark-2: none"
    ]
    assert dogs({**quiet, "duty": "off", "why": "rank 1 is not running"}, quiet)[1:] == [
        "           spark-1: rank 1 is not running"
    ]
    assert dogs(None, None) == []

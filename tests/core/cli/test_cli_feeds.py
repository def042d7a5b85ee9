"""One rank's log over one connection, after whatever the login's shell prints of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from spark_cluster import feeds
from spark_cluster.feeds import LogFeed, LogLine, split_stamp


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    log = tmp_path / ".local/state/spark-serving/sglang-head.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"clock 7\nspark-serving clock 8\nready\xff\n")
    return tmp_path


def fed(
    monkeypatch: pytest.MonkeyPatch, before: str, instead: bool = False
) -> tuple[LogFeed, list[str]]:
    """The feed of a process' log, and its lines, where the login's shell first runs `before`."""
    argv_of = feeds.remote_argv

    def noisy(node: Any, script: str, arguments: Any) -> list[str]:
        output = argv_of(node, script, arguments)
        assert output
        run = "exit 1" if instead else 'exec "$@"'
        return ["sh", "-c", f"{before}\n{run}", "sh", *output]

    monkeypatch.setattr(feeds, "remote_argv", noisy)
    lines: list[LogLine] = []
    node = {
        "name": "spark-1",
        "here": True,
        "ssh": None,
        "runtime": "process",
        "rank": "sglang-head",
    }
    feed = LogFeed(0, node, "all", False, lines.append, lambda words: None)
    feed.run()
    return feed, [line.text for line in lines]


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("", id="quiet"),
        pytest.param("echo Welcome", id="echo"),
        pytest.param("printf 'no end'", id="a-line-without-its-end"),
        pytest.param("echo oops >&2", id="stderr"),
        pytest.param("printf 'a\\377\\r\\n'", id="binary"),
    ],
)
def test_login_output_is_not_part_of_the_log(
    home: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    feed, lines = fed(monkeypatch, before)
    assert lines == ["clock 7", "spark-serving clock 8", "ready\ufffd"]
    assert feed.failed == ""


def test_a_login_that_runs_nothing_is_named_with_its_cure(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, lines = fed(monkeypatch, "echo Please login as nvidia", instead=True)
    assert lines == []
    assert "Please login as nvidia" in feed.failed
    assert "[[ $- == *i* ]] || return" in feed.failed


@pytest.mark.parametrize("line", ["2025-99-99T99:99:99Z x", "0000-01-01T00:00:00Z x", "", "2025"])
def test_an_invalid_time_is_not_a_stamp(line: str) -> None:
    assert split_stamp(line) == (None, line)

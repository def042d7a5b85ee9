"""`spark-cluster models --unused`: sizes by node, whose it is, and the command that removes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from spark_cluster import models
from spark_cluster.models import render_unused
from spark_cluster.project import Project

INVENTORY = Path("inventories/my sparks.py")
MINE = {"kind": "weights", "name": "Qwen/Qwen2.5-7B-Instruct", "bytes": 15_200_000_000, "left": ""}
THEIRS = {"kind": "image", "name": "lmsysorg/sglang:spark", "bytes": 24_000_000_000, "left": "why"}
CACHE = {"kind": "compiled", "name": "of sglang-0 with image ab", "bytes": 10**9, "left": ""}


def document(*nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": 1,
        "notes": [],
        "nodes": [{"name": f"spark-{n + 1}", "unused": items} for n, items in enumerate(nodes)],
    }


def test_sizes_by_node_and_the_command() -> None:
    text = click.unstyle(render_unused(document([MINE, THEIRS], [CACHE]), INVENTORY))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "node what name size",
        "spark-1 weights Qwen/Qwen2.5-7B-Instruct 15.2 GB",
        "spark-1 image lmsysorg/sglang:spark 24.0 GB left: why",
        "spark-2 compile cache of sglang-0 with image ab 1.0 GB",
        "",
        "16.2 GB can be removed (--dry shows what): "
        "pyinfra -y 'inventories/my sparks.py' deploys/prune.py",
    ]


def test_where_nothing_is_ours_no_command_is_named() -> None:
    assert "prune.py" not in render_unused(document([THEIRS]), INVENTORY)
    assert "nothing is unused" in render_unused(document([], []), INVENTORY)


def test_what_would_refuse_a_removal_is_shown() -> None:
    text = render_unused({**document([MINE]), "notes": ["spark-1: another run"]}, INVENTORY)
    assert text.endswith("deploys/prune.py would be refused now: spark-1: another run")


@pytest.mark.parametrize("words", [["--unused", "--offline"], ["--unused", "qwen7b"]])
def test_it_reads_nodes(words: list[str]) -> None:
    done = CliRunner().invoke(models.command, words)
    assert done.exit_code == 2
    assert "leave out --offline and MODEL" in done.output


def test_the_command_shows_the_document_of_the_deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(self: Project, deploy: str, **_: Any) -> dict[str, Any]:
        asked.append(deploy)
        return document([{**MINE, "name": "a\x1b[2Jb"}])

    monkeypatch.setattr(Project, "fetch", fetch)
    done = CliRunner().invoke(models.command, ["--unused"])
    assert done.exit_code == 0, done.output
    assert "spark-1  weights  ab    15.2 GB" in done.output
    assert asked == ["unused"]

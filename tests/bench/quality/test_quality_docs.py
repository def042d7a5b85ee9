"""docs/quality.md: its lines work as they stand there, and no key of the file is left out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from answering_server import answering
from click.testing import CliRunner
from spark_bench.cli import main
from spark_bench.quality.items import Grader, read_items
from spark_bench.quality.tool_calls import tool_items
from spark_bench.results.json_schema import quality_schema

DOC = Path(__file__, "../../../../docs/quality.md").resolve().read_text()
SHARED = {
    "Provenance",
    "Client",
    "Machine",
    "Commit",
    "ServerInfo",
    "DeployedGroup",
    "DeployedRank",
}


def blocks(language: str) -> list[str]:
    return [
        b for each in re.findall(rf"```{language}\n(.*?)```", DOC, re.S) for b in each.splitlines()
    ]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("docs") / "result.json"

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        return {"content": "Answer: 7"} if len(server.asked) % 2 else {"content": "I can't tell."}

    with answering(answer) as server:
        words = ["arith", "--limit", "9", "-c", "1", "--url", server.url, "--output", str(file)]
        done = CliRunner().invoke(main, ["quality", *words, "--no-history"])
    assert done.exit_code == 0, done.output
    return file


@pytest.mark.parametrize("line", [line for line in blocks("sh") if line.startswith("jq")])
def test_the_documented_jq_line_runs(line: str, result: Path) -> None:
    if not shutil.which("jq"):
        assert os.environ.get("CI") != "true", "CI=true needs jq: apt-get install jq"
        pytest.skip("jq is not installed")
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=30, cwd=result.parent
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_a_result_keeps_its_schema(result: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(quality_schema())
    jsonschema.validate(json.loads(result.read_bytes()), quality_schema())


def test_the_documented_items_can_be_sent(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(blocks("json")))
    assert len(read_items(file)) == 2


@pytest.mark.parametrize("kind", sorted(quality_schema()["$defs"].keys() - SHARED))
def test_every_key_is_explained(kind: str) -> None:
    keys = set(quality_schema()["$defs"][kind].get("properties", {}))
    assert not keys - set(re.findall(r"`(\w+)`", DOC))


def test_counts_and_graders_are_those_of_the_code() -> None:
    assert f"{len(tool_items())} scenarios" in DOC
    assert all(f"| `{grader}` |" in DOC for grader in Grader.__args__)

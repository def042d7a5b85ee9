"""gpt-oss needs tiktoken vocabularies: with wrong ones nothing starts, and none is placed."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploying import Deploy, lives, serves

GPT_OSS = "openai/gpt-oss-20b"
FOLDER = "/home/nvidia/tiktoken_encodings"
FILES = ("o200k_base.tiktoken", "cl100k_base.tiktoken")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "tiktoken_source has no ", id="not in the source folder"),
        pytest.param(b"half of it", "SHA-256 is ", id="damaged"),
    ],
)
def test_wrong_vocabularies_are_not_placed_and_leave_what_runs(
    served: Deploy, tmp_path: Path, content: bytes | None, words: str
) -> None:
    cluster, before = served.cluster, lives(served.cluster)
    cluster.each(lambda node: node.add_weights(GPT_OSS))
    source = tmp_path / "encodings"
    source.mkdir()
    for name in FILES if content else ():
        (source / name).write_bytes(content or b"")
    output = served.fails(model="gpt-oss-20b", tiktoken_source=str(source))
    assert words in output
    assert FILES[0] in output
    for node in cluster.nodes.values():
        assert node.run(f"ls -A {FOLDER}", check=False).stdout == ""
    assert lives(cluster) == before
    assert serves(cluster)


def test_a_source_that_cannot_be_reached(served: Deploy) -> None:
    served.cluster.each(lambda node: node.add_weights(GPT_OSS))
    output = served.fails(model="gpt-oss-20b", tiktoken_source="https://registry.tb:9/encodings")
    assert "could not be placed from https://registry.tb:9/encodings" in output
    assert "--data tiktoken_source=" in output
    assert serves(served.cluster)

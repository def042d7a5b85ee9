"""What the README and the pages in docs/ name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.settings.schema import NAMES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_data_options_in_the_docs_are_settings() -> None:
    text = "\n".join([README, *(page.read_text() for page in PAGES)])
    named = set(re.findall(r"--data\s+'?(\w+)=", text))
    ours = {name for name in named if not name.startswith("ssh_")}
    assert ours - {"NAME", "report"} <= set(NAMES)
    assert len(named) > 10


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z][a-z0-9-]*)", README))))
def test_make_targets_exist(target: str) -> None:
    commented = re.search(rf"<!--(?:(?!-->).)*`make {target}`", README, re.S)
    assert commented or re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize(
    "path",
    sorted(
        set(re.findall(r"\]\((?!http)([^)#]+)\)", README))
        | set(re.findall(r"\b(?:deploys|inventories|tests|cluster|requirements)/[\w/.]*\w", README))
    ),
)
def test_paths_exist(path: str) -> None:
    assert (ROOT / path).exists()

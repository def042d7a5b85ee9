"""The generated pages are what `make docs` writes, and say all that their sources say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from cluster.settings.schema import NAMES, SECTIONS, Settings, descriptions

ROOT = Path(__file__).parents[2]
PAGES: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_generated(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name], "make docs"


def test_every_setting_has_a_description_that_ends_as_a_sentence() -> None:
    assert tuple(descriptions()) == NAMES
    assert all(text.endswith(".") for text in descriptions().values())
    assert set(SECTIONS.values()) <= set(NAMES)


def test_the_page_of_settings_lists_each_with_its_default() -> None:
    rows = [line for line in PAGES["settings.md"].splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(NAMES)
    assert f"| `port` | `{Settings.port}` | an integer from 1 to 65535 | " in PAGES["settings.md"]


def test_the_page_on_troubleshooting_lists_symptoms_and_findings() -> None:
    page = PAGES["troubleshooting.md"]
    assert "the GPU's memory ran out; on a Spark the node's processes share it" in page
    assert "| `no QSFP port is Up: …` | plug the QSFP cable in at both ends" in page

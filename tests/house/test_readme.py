"""The README's tables say what the code does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from cluster.catalog.fit import fit
from cluster.catalog.models import Model, catalog
from cluster.findings import Level
from cluster.settings.schema import NAMES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGE = ROOT / "inventories" / "group_data" / "all.py"
# MemTotal of a DGX Spark, as its owners' /proc/meminfo shows it.
SPARK_BYTES = 131_334_144 * 1024


def section(heading: str) -> str:
    """The text below a heading, to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", README, re.M | re.S)
    assert found, f"README.md has no heading {heading!r}"
    return found[1]


def table(heading: str) -> list[list[str]]:
    """The rows of a section's first table, without its head."""
    rows = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def groups() -> dict[str, list[str]]:
    """all.py's own headings, and the settings below each."""
    found: dict[str, list[str]] = {}
    for line in PAGE.read_text().splitlines():
        if heading := re.fullmatch(r"# ---- (.*)", line):
            found[heading[1]] = []
        elif (name := re.match(r"\w+(?=(: [^=]+)? = )", line)) and name[0] in NAMES:
            found[list(found)[-1]].append(name[0])
    return {heading: names for heading, names in found.items() if names}


def shown(value: Any) -> str:
    """A default as the table writes it; nothing for an empty one."""
    if value in ("", [], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def fits(model: Model, nodes: int) -> str:
    assert model.mem_fraction is not None
    told = fit(model, SPARK_BYTES, nodes=nodes, tp=nodes, pp=1, mem_fraction=model.mem_fraction)
    return "no" if any(f.level is Level.ERROR for f in told) else "yes"


def test_every_setting_stands_in_one_of_all_pys_sections() -> None:
    assert [name for names in groups().values() for name in names] == list(NAMES)


@pytest.mark.parametrize("heading", groups())
def test_settings(heading: str) -> None:
    defaults = runpy.run_path(str(PAGE))
    expected = [[f"`{name}`", shown(defaults[name])] for name in groups()[heading]]
    rows = table(heading)
    assert [row[:2] for row in rows] == expected
    assert all(meaning for _, _, meaning in rows)


def test_models() -> None:
    assert table("Models") == [
        [
            str(model.number),
            f"`{model.alias}`",
            model.id,
            f"{(model.weight_bytes or 0) / 1e9:.1f} GB",
            f"{model.mem_fraction:.2f}",
            fits(model, nodes=1),
            fits(model, nodes=2),
            "yes" if model.gated else "",
        ]
        for model in catalog()
        if model.number is not None
    ]


def test_data_on_its_command_lines_are_settings() -> None:
    named = set(re.findall(r"--data\s+'?(\w+)=", README))
    assert named - {"NAME"} <= set(NAMES)
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

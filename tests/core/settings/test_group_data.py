"""inventories/group_data/all.py is the settings' one page: every name, its default, a comment."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from cluster.settings.declaration import HostData, parse_settings
from cluster.settings.schema import NAMES, Settings

PAGE = Path(__file__).parents[3] / "inventories" / "group_data" / "all.py"
SOURCE = PAGE.read_text()
TREE = ast.parse(SOURCE)


def assignments() -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for line in TREE.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            found[line.target.id] = line
        elif isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            found[line.targets[0].id] = line
    return found


def values() -> dict[str, Any]:
    """The page as pyinfra runs it."""
    scope: dict[str, Any] = {}
    exec(compile(SOURCE, str(PAGE), "exec"), scope)
    return {name: scope[name] for name in assignments()}


OURS = [name for name in assignments() if not name.startswith("ssh_")]


def test_it_holds_exactly_the_settings_in_their_order() -> None:
    assert tuple(OURS) == NAMES


def test_its_values_are_the_defaults() -> None:
    data = values()
    assert parse_settings(HostData("spark-1", ("head",), data, [data["env"]])) == Settings()


@pytest.mark.parametrize("name", OURS)
def test_its_value_needs_no_conversion(name: str) -> None:
    said, default = values()[name], getattr(Settings(), name)
    assert (list(said) if isinstance(said, list) else said) == (
        list(default) if isinstance(default, tuple) else default
    )


@pytest.mark.parametrize("name", list(assignments()))
def test_a_comment_stands_before_it(name: str) -> None:
    above = SOURCE.splitlines()[assignments()[name].lineno - 2]
    assert above.startswith("# ")
    assert not above.startswith("# ----")


def test_no_import_becomes_a_setting() -> None:
    imported = {
        a.asname or a.name for n in TREE.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
    assert not imported & set(NAMES)

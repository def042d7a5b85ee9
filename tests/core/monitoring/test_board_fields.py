"""The boards as Grafana reads them; tests/monitoring runs their queries."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from cluster.monitoring.boards import COLUMNS, boards
from cluster.monitoring.rules import rule_groups

BOARDS = [pytest.param(board, id=name) for name, board in boards().items()]


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where a value of ours is missing or another one in what came back."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            yield from lost(value, theirs.get(name), f"{path}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(*pair, f"{path}[{number}]")
    elif ours != theirs:
        yield f"{path}: {ours!r} -> {theirs!r}"


@pytest.mark.parametrize("board", BOARDS)
def test_grafanas_own_types_know_every_field(board: dict[str, Any]) -> None:
    if not importlib.util.find_spec("grafana_foundation_sdk"):
        problem = "grafana-foundation-sdk is missing: make setup"
        pytest.fail(problem) if os.environ.get("CI") == "true" else pytest.skip(problem)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    written = json.loads(json.dumps(board))
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
    assert list(lost(written, back)) == []
    # That what it does not know is lost is what makes this a test.
    assert list(lost({**written, "nonsense": 1}, back)) == [".nonsense: 1 -> None"]


@pytest.mark.parametrize("board", BOARDS)
def test_panels_have_ids_of_their_own_and_cover_none_of_another(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= COLUMNS for p in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below


@pytest.mark.parametrize("board", BOARDS)
def test_a_curve_is_at_least_half_as_wide_as_the_page(board: dict[str, Any]) -> None:
    curves = [panel for panel in board["panels"] if panel["type"] == "timeseries"]
    assert curves and all(panel["gridPos"]["w"] >= COLUMNS // 2 for panel in curves)


@pytest.mark.parametrize("board", BOARDS)
def test_every_query_is_of_the_chosen_group_and_names_what_is_recorded(
    board: dict[str, Any],
) -> None:
    (group,) = rule_groups()["groups"]
    recorded = {rule.get("record") for rule in group["rules"]}
    node = False
    for panel in board["panels"]:
        node = node or panel.get("repeat") == "node"
        for target in panel.get("targets", ()):
            assert 'group="$group"' in target["expr"]
            assert ('node="$node"' in target["expr"]) == node
            names = re.findall(r"\b(?:group|node|half):\w+:\w+", target["expr"])
            assert set(names) <= recorded
    assert node

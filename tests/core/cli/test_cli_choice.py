"""Where files say which model is served, and that changing it changes nothing else."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, strategies as st
from spark_cluster import choice
from spark_cluster.commands import ClusterError


def hosts(source: str, model: str) -> str:
    raw = source.encode()
    return choice.replaced(raw, choice.in_hosts(raw, "spark.py", "model"), model).decode()


def group(source: str, model: str) -> str:
    raw = source.encode()
    return choice.replaced(raw, choice.in_group(raw, "spark.py", "model"), model).decode()


@pytest.mark.parametrize(
    ("source", "after"),
    [
        pytest.param('S = {"model": "a"}\n', 'S = {"model": "qwen7b"}\n', id="shared"),
        pytest.param("S = {'model': 6} # 6\n", "S = {'model': \"qwen7b\"} # 6\n", id="number"),
        pytest.param(
            'h = [("x", dict(model="a"))]', 'h = [("x", dict(model="qwen7b"))]', id="call"
        ),
        pytest.param(
            'a = {"model": "x"}\nb = {"model": "y"}\n',
            'a = {"model": "qwen7b"}\nb = {"model": "qwen7b"}\n',
            id="two-places",
        ),
        pytest.param(
            '# ünïcode\n"ä"; S = {"é": 1, "model": "ß"}  # ö\n',
            '# ünïcode\n"ä"; S = {"é": 1, "model": "qwen7b"}  # ö\n',
            id="characters-of-several-bytes",
        ),
        pytest.param(
            'S = {\r\n "model": "a",\r\n}\r\n',
            'S = {\r\n "model": "qwen7b",\r\n}\r\n',
            id="windows",
        ),
        pytest.param(
            'S = {"model": ("a"\n  "b")}\n', 'S = {"model": ("qwen7b")}\n', id="two-lines"
        ),
        pytest.param(
            'a = "\x0b\x0c"\nS = {"model": "a"}\n',
            'a = "\x0b\x0c"\nS = {"model": "qwen7b"}\n',
            id="no-line-ends-of-python",
        ),
        pytest.param(
            'S = {"env": {"model": "a"}, **{"model": "b"}}\n',
            'S = {"env": {"model": "a"}, **{"model": "qwen7b"}}\n',
            id="env-is-not-it",
        ),
        pytest.param(
            'S = dict(env=dict(model="a"))\nx = f(model="b")\n',
            'S = dict(env=dict(model="a"))\nx = f(model="b")\n',
            id="nor-another-call",
        ),
        pytest.param('# model = "a"\nh = ["model"]\n', '# model = "a"\nh = ["model"]\n', id="none"),
    ],
)
def test_the_inventorys_own_data(source: str, after: str) -> None:
    assert hosts(source, "qwen7b") == after


@pytest.mark.parametrize(
    ("source", "after"),
    [
        pytest.param(
            'model = "a"  # why\nport = 1\n', 'model = "qwen7b"  # why\nport = 1\n', id="str"
        ),
        pytest.param('model: str = "a"\n', 'model: str = "qwen7b"\n', id="annotated"),
        pytest.param(
            'if 1:\n    model = "a"\ndef f():\n    model = "b"\n',
            'if 1:\n    model = "qwen7b"\ndef f():\n    model = "b"\n',
            id="module-level-alone",
        ),
        pytest.param('x = {"model": "a"}\n', 'x = {"model": "a"}\n', id="a-mapping-is-not-it"),
    ],
)
def test_group_data(source: str, after: str) -> None:
    assert group(source, "qwen7b") == after


def test_a_computed_model_is_reported_with_its_line() -> None:
    with pytest.raises(ClusterError, match=r"spark\.py line 2: model is computed \(pick\(\)\)"):
        hosts('import os\nS = {"model": pick()}\n', "qwen7b")


def test_a_file_that_is_not_python_is_reported_with_its_line() -> None:
    with pytest.raises(ClusterError, match=r"spark\.py line 2 is not Python"):
        hosts("a = 1\nhead = [\n", "qwen7b")


@pytest.mark.parametrize(
    ("source", "after"),
    [
        pytest.param(b"", b'model = "a"\n', id="empty"),
        pytest.param(b"port = 1", b'port = 1\nmodel = "a"\n', id="no-end"),
        pytest.param(b"port = 1\r\n", b'port = 1\r\nmodel = "a"\r\n', id="windows"),
    ],
)
def test_an_assignment_at_the_end(source: bytes, after: bytes) -> None:
    assert choice.appended(source, "model", "a") == after


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_name_is_read_back_as_it_was_meant(name: str) -> None:
    assert ast.literal_eval(choice.literal(name)) == name
    (place,) = choice.in_group(choice.appended(b"", "model", name), "spark.py", "model")
    assert place.value == name

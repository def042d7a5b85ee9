"""Groups that pyinfra would pass over, and names that it would take for others'."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cluster.settings.inventory import unreachable_names, unreadable_groups

SETTINGS = {"model": "gpt-oss-120b"}


def messages(variables: dict[str, Any]) -> str:
    return "\n".join(map(str, unreadable_groups("spark.py", variables)))


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"head": ["spark-1"]}, id="a-list"),
        pytest.param({"head": (["spark-1"], SETTINGS), "workers": []}, id="with-settings"),
        pytest.param({"head": (("spark-1",), SETTINGS)}, id="a-tuple-of-names-with-settings"),
        pytest.param({"head": [("spark-1", {"gpus": "0"})]}, id="a-node-with-settings"),
        pytest.param({"all": ["spark-1"]}, id="groups-by-other-means"),
        pytest.param(
            {"head": ["a"], "_hosts": ("x",), "SETTINGS": SETTINGS, "os": re, "COUNT": 3},
            id="what-is-no-group",
        ),
    ],
)
def test_variables_pyinfra_reads_correctly_are_accepted(variables: dict[str, Any]) -> None:
    assert messages(variables) == ""


@pytest.mark.parametrize(
    ("head", "says"),
    [
        pytest.param("spark-1", "is the text 'spark-1'", id="a-string"),
        pytest.param(((["a"], SETTINGS),), "stray comma", id="a-comma-too-many"),
        pytest.param((["a"], SETTINGS, SETTINGS), "a tuple of 3 items", id="a-tuple-too-long"),
        pytest.param((), "a tuple of 0 items", id="an-empty-tuple"),
        pytest.param(("spark-1", "spark-2"), "a tuple of 2 items", id="a-tuple-of-names"),
        pytest.param(("spark-1", SETTINGS), "a tuple of 2 items", id="a-name-with-settings"),
        pytest.param((["a"], None), "a tuple of 2 items", id="no-settings"),
        pytest.param((None, SETTINGS), "a tuple of 2 items", id="no-names"),
        pytest.param((h for h in ["a"]), "a generator", id="a-generator"),
        pytest.param({"spark-1": SETTINGS}, "a dict", id="a-dict"),
        pytest.param({"spark-1"}, "a set", id="a-set"),
        pytest.param(None, "None", id="none"),
        pytest.param(7, "7", id="a-number"),
        pytest.param([], "has no host", id="an-empty-list"),
        pytest.param(([], SETTINGS), "has no host", id="an-empty-list-with-settings"),
        pytest.param([""], "a node without a name", id="an-empty-name"),
        pytest.param([("", {})], "a node without a name", id="an-empty-name-with-settings"),
        pytest.param([["spark-1"]], "has a list for a node", id="a-group-in-a-group"),
        pytest.param([("spark-1",)], "stray comma", id="a-node-with-a-comma-too-many"),
        pytest.param([("a", {}, {})], "a tuple of 3 items", id="a-node-with-too-much"),
        pytest.param([("a", "b")], "a tuple of 2 items", id="a-node-with-text-for-settings"),
        pytest.param([1], "has 1 for a node", id="a-node-that-is-a-number"),
        pytest.param((["a"], {1: 2}), "has a setting named 1", id="a-setting-without-a-name"),
    ],
)
def test_a_head_pyinfra_would_skip_is_named_with_a_fix(head: Any, says: str) -> None:
    text = messages({"head": head})
    assert "the group `head` of spark.py" in text
    assert says in text
    assert " -> head = " in text


def test_the_other_groups_are_looked_at_as_well() -> None:
    text = messages({"head": ["a"], "workers": "b"})
    assert "the group `workers` of spark.py is the text" in text
    assert 'workers = ["spark-2"]' in text, "not the head once more"
    assert "call it _PORTS" in messages({"head": ["a"], "PORTS": (1, 2)})


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({}, "the group `head` has no host: it must", id="an-empty-file"),
        pytest.param({"heads": ["a"]}, "(heads is another name)", id="mistyped"),
        pytest.param({"Head": ["a"]}, "(Head is another name)", id="capital"),
        pytest.param({"master": ["a"]}, "(master is another name)", id="another-word"),
    ],
)
def test_a_file_without_a_head(variables: dict[str, Any], says: str) -> None:
    assert says in messages(variables)


@pytest.mark.parametrize(
    "name",
    ["spark-1", "spark_1.lan", "10.0.0.5", "fd00::1", "fe80::1%eth0", "@local", "@ssh/spark-1",
     "@docker/abc:def", "@fake/a@b"],
)  # fmt: skip
def test_names_that_pyinfra_reaches(name: str) -> None:
    assert not list(unreachable_names(name, {"ssh_port": 2222, "ssh_user": "me"}))


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        pytest.param("me@spark-1", """("spark-1", {'ssh_user': 'me'})""", id="user"),
        pytest.param("spark-1:2222", """("spark-1", {'ssh_port': 2222})""", id="port"),
        pytest.param("me@h:22", "{'ssh_user': 'me', 'ssh_port': 22}", id="user-and-port"),
        pytest.param("ssh://me@h:22", "{'ssh_user': 'me', 'ssh_port': 22}", id="url"),
        pytest.param("ssh://spark-1/", '"spark-1" in the inventory', id="url-of-a-name"),
        pytest.param("[fd00::1]", '"fd00::1" in the inventory', id="brackets"),
        pytest.param("[fd00::1]:22", """("fd00::1", {'ssh_port': 22})""", id="brackets-port"),
        pytest.param("@ssh/me@spark-1", "ssh_user", id="pyinfras-own-connector"),
        pytest.param("me@ad.lan@h", """{'ssh_user': 'me@ad.lan'}""", id="a-user-with-a-domain"),
    ],
)
def test_parts_of_a_name_are_explained(name: str, cure: str) -> None:
    (finding,) = unreachable_names(name, {})
    assert cure in finding.cure


@pytest.mark.parametrize("name", ["", " spark-1", "spark 1", "-oProxyCommand=x", "a/b", "a\n", "ä"])
def test_an_impossible_node_name_is_reported(name: str) -> None:
    (finding,) = unreachable_names(name, {})
    assert "is neither a name nor an address" in finding.what


@pytest.mark.parametrize("port", ["ssh", 0, 65536, True, "22 ", 2.5, "٢٢"])
def test_a_port_that_is_none(port: Any) -> None:
    (finding,) = unreachable_names("spark-1", {"ssh_port": port})
    assert "from 1 to 65535" in finding.what


def test_an_ssh_hostname_is_held_to_the_same() -> None:
    (finding,) = unreachable_names("spark-1", {"ssh_hostname": "me@10.0.0.5"})
    assert "ssh_hostname of spark-1" in finding.what and "ssh_user" in finding.cure

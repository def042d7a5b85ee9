"""What a hub or another node may say of a model's files, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.transfer import gate

SHA, GIT = "a" * 64, "b" * 40


def row(name: object = "a", size: object = 2, kind: object = "git", digest: object = GIT) -> Any:
    return [name, size, kind, digest]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("config.json", id="a file"),
        pytest.param("sub/deep/model-00001-of-00002.safetensors", id="below folders"),
        pytest.param(".gitattributes", id="hidden"),
        pytest.param("..data/x...y", id="dots in a name"),
        pytest.param('it\'s a "name" $(x)', id="quotes and blanks"),
        pytest.param("模型 說明.md", id="other letters"),
        pytest.param("-rf", id="like an option"),
    ],
)
def test_a_safe_path_is_accepted(value: str) -> None:
    assert gate.check_path(value) == value


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a/./b",
            "a//b",
            "a/",
        ),
        *("a\nb", "a\0b", "a\x1b[2J", "a\x7fb", "a\x85b", "a\u2028b", "a\u202eb", "a\ud800b"),
        *("a\\b", "..\\x", "x" * 256, "/".join("x" * 600), "sub/.spark-serving.json"),
        *(".spark-serving-part/x", ".git/config", None, 7, b"a", ["a"]),
    ],
)
def test_no_name(value: object) -> None:
    with pytest.raises(gate.Unfit):
        gate.check_path(value)


@pytest.mark.parametrize(
    "value",
    ["", "main", "A" * 40, "a" * 39, "a" * 41, "a" * 40 + "\n", "/" + "a" * 39, "g" * 40, None, 40],
)
def test_no_commit(value: object) -> None:
    with pytest.raises(gate.Unfit):
        gate.check_commit(value)


def test_a_file_list_is_checked() -> None:
    rows = [
        row("a/b"),
        row("a/c", 5, "sha256", SHA),
        row("A.txt", 2, "git", GIT),
        row("empty", 0, "git", "c" * 40),
    ]
    assert gate.check_listing(rows) == [tuple(r) for r in rows]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="nothing"),
        pytest.param({}, id="no list"),
        pytest.param(None, id="null"),
        pytest.param([row()] * (gate.MOST_FILES + 1), id="too many"),
        pytest.param(["a"], id="a name alone"),
        pytest.param([row()[:3]], id="no hash"),
        pytest.param([row(size=-1)], id="a size below nothing"),
        pytest.param([row(size=True)], id="true for a size"),
        pytest.param([row(size=2.0)], id="a float"),
        pytest.param([row(size="2")], id="a string"),
        pytest.param([row(size=None)], id="no size"),
        pytest.param([row(size=10**30)], id="more than there is"),
        pytest.param([row(kind="md5")], id="another hash"),
        pytest.param([row(kind=["git"])], id="a list for a kind"),
        pytest.param([row(digest=SHA)], id="a hash of another kind"),
        pytest.param([row(digest=GIT.upper())], id="capitals"),
        pytest.param([row(digest="../" + "a" * 37)], id="a hash that is a path"),
        pytest.param([row(digest=None)], id="no hash at all"),
        pytest.param([row("a"), row("a")], id="twice"),
        pytest.param([row("README.md"), row("readme.md")], id="but for capitals"),
        pytest.param([row("caf\u00e9"), row("cafe\u0301")], id="but for how it is composed"),
        pytest.param([row("a"), row("a/b")], id="a file and a folder"),
        pytest.param([row("x/y/z"), row("X/y")], id="a folder and a file, but for capitals"),
        pytest.param([row("a", 2), row("b", 3)], id="one hash of two sizes"),
    ],
)
def test_no_list(rows: object) -> None:
    with pytest.raises(gate.Unfit) as refused:
        gate.check_listing(rows)
    assert str(refused.value).isascii()
    assert len(str(refused.value)) < 250


def entry(**changed: object) -> dict[str, object]:
    usual = {"size": 2, "kind": "git", "hash": GIT, "by": "hub", "blob": GIT, "mtime_ns": 1}
    return usual | changed


def test_entries_of_a_node() -> None:
    assert gate.check_entries({"a": entry(blob=SHA), "b": entry(blob="")}).keys() == {"a", "b"}
    assert gate.check_entries({"": entry()}, lone=True)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([], id="a list"),
        pytest.param({"": entry()}, id="a lone file where none can be"),
        pytest.param({"../x": entry()}, id="a name that leaves"),
        pytest.param({"a": None}, id="nothing"),
        pytest.param({"a": entry(blob="../../x")}, id="a blob that is a path"),
        pytest.param({"a": entry(mtime_ns=-1)}, id="a time before all"),
        pytest.param({"a": entry(size="2")}, id="a size that is a string"),
        pytest.param({"a": {"size": 2}}, id="without the rest"),
    ],
)
def test_no_entries(value: object) -> None:
    with pytest.raises(gate.Unfit):
        gate.check_entries(value)


def test_impossible_entries_of_a_stored_list_are_ignored() -> None:
    stored = {"a": entry(), "../x": entry(), "b": None, ".git/config": entry()}
    assert gate.usable_entries(stored).keys() == {"a"}

"""What `make house` counts, on small trees made up for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from measure import Figure, figures, modules

CONFIG: dict[str, Any] = {
    "orders": {"all": [["low"], ["high"]]},
    "participles": ["made"],
    "limits": dict.fromkeys(
        ("shared_names", "used_once", "imports", "small_files", "circles", "upward", "file_names",
         "participles", "readme"), 0,
    ),
}  # fmt: skip


def measured(root: Path, files: dict[str, str], **exceptions: dict[str, str]) -> dict[str, Figure]:
    """The rows by name, for a product of the packages `low` and `high`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    product = [name for name in ("low", "high") if (root / name).is_dir()]
    rows = figures(modules(root, product), CONFIG | {"exceptions": exceptions}, readme=7)
    return {row.name: row for row in rows}


def test_a_public_name_of_two_modules_is_shared_unless_excepted(tmp_path: Path) -> None:
    files = {
        "low/a.py": "class Job: ...\nclass One: ...\ndef create(): ...\n",
        "low/b.py": "class Job: ...\ndef create(): ...\ndef _own(): ...\n",
        "low/c.py": "def _own(): ...\n",
    }
    rows = measured(tmp_path, files)
    classes = rows["public class names in several modules"]
    assert (classes.value, classes.behind) == (50, ["Job: low.a, low.b"])
    assert rows["public function names in several modules"].value == 100
    rows = measured(tmp_path, files, shared_names={"create": "a protocol's"})
    assert rows["public function names in several modules"].value == 0


def test_private_functions_used_once(tmp_path: Path) -> None:
    text = (
        "def public():\n    return _once() + _twice() + _twice()\n"
        "def _once():\n    return 1\n"
        "def _twice():\n    return 2\n"
        "@register\ndef _registered():\n    return 3\n"
    )
    row = measured(tmp_path, {"low/a.py": text})["private functions used once"]
    assert (row.value, row.behind) == (25, ["low.a._once"])


def test_a_recursive_function_is_used_by_others_alone(tmp_path: Path) -> None:
    text = "def public():\n    _walk(3)\ndef _walk(n):\n    n and _walk(n - 1)\n"
    row = measured(tmp_path, {"low/a.py": text})["private functions used once"]
    assert row.behind == ["low.a._walk"]


def test_import_circles_ignore_type_only_and_local_imports(tmp_path: Path) -> None:
    rows = measured(tmp_path, {"low/a.py": "import low.b\n", "low/b.py": "from low import a\n"})
    assert rows["import circles"].behind == ["low.a <-> low.b"]
    for late in (
        "def f():\n    import low.a\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import low.a\n",
    ):
        rows = measured(tmp_path, {"low/b.py": late})
        assert rows["import circles"].value == 0


@pytest.mark.parametrize(
    "text",
    ["import high.b\n", "from high import b\n", "from high.b import x\n",
     "def f():\n    from high import b\n"],
)  # fmt: skip
def test_an_import_of_a_higher_layer_points_upward(tmp_path: Path, text: str) -> None:
    name = "imports from a lower layer to a higher"
    files = {"low/a.py": text, "high/b.py": "import low.c\nx = 1\n", "low/c.py": ""}
    assert measured(tmp_path, files)[name].behind == ["low.a -> high.b"]
    rows = measured(tmp_path, files, upward={"low.a -> high.b": "for a reason"})
    assert rows[name].value == 0


def test_small_files_with_one_importer(tmp_path: Path) -> None:
    files = {
        "low/small.py": "x = 1\n",
        "low/long.py": "x = 1\n" * 60,
        "low/shared.py": "x = 1\n",
        "high/a.py": "import low.small, low.long, low.shared\n",
        "high/b.py": "import low.shared\n",
    }
    row = measured(tmp_path, files)["files < 60 lines with one importer"]
    assert row.behind == ["low.small (1 lines; high.a)"]


def test_lines_of_imports(tmp_path: Path) -> None:
    text = "from low.b import (\n    x,\n    y,\n)\nx\ny\nx\ny\n"
    assert measured(tmp_path, {"low/a.py": text})["imports' share of all lines"].value == 50


def test_file_names_of_several_modules_of_a_family(tmp_path: Path) -> None:
    files = {"low/one/words.py": "", "low/two/words.py": "", "high/words.py": ""}
    row = measured(tmp_path, files)["file names of several modules"]
    assert row.behind == ["low/**/words.py: low.one.words, low.two.words"]


def test_participles_are_counted_where_they_name_things(tmp_path: Path) -> None:
    text = 'def f(made):\n    """made"""\n    return made\n'
    row = measured(tmp_path, {"low/a.py": text})["made, told, said, asked, … as names"]
    assert (row.value, row.behind) == (2, ["made: 2"])


def test_a_module_of_an_ordered_family_stands_in_a_layer(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    for name in ("a.py", "b.py"):
        (tmp_path / "low" / name).touch()
    rows = figures(modules(tmp_path, ["low"]), CONFIG | {"orders": {"all": [["low.a"]]}}, readme=7)
    behind = {row.name: row.behind for row in rows}["imports from a lower layer to a higher"]
    assert behind == ["low.b: in no layer"]

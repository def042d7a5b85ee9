"""What keeps the tests independent: of the product's private names, and of one another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from measure import LIMITS, ROOT

TESTS = ROOT / "tests"
PRODUCT = {Path(part).stem for part in LIMITS["product"]} | {"spark_bench", "spark_cluster"}
# "FILE: name" -> why a test must use it all the same.
PRIVATE: dict[str, str] = {}


@cache
def files() -> list[tuple[str, ast.Module]]:
    """Every test file's path, from the root of the project, and its tree."""
    paths = sorted(TESTS.rglob("*.py"))
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in paths]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(tree: ast.Module) -> Iterator[str]:
    """Names of the product's modules that begin with "_": imported, read or patched."""
    modules = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules |= {n.asname or n.name for n in names if n.name.split(".")[0] in PRODUCT}
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in PRODUCT:
                    yield from (n.name for n in names if is_private(n.name))
                    modules |= {n.asname or n.name for n in names}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=name):
                if is_private(name) and ast.unparse(owner) in modules:
                    yield f"{ast.unparse(owner)}.{name}"
            case ast.Call(func=ast.Attribute(attr="setattr" | "setitem"), args=[target, *rest]):
                names = [a.value for a in (target, *rest[:1]) if isinstance(a, ast.Constant)]
                for name in names:
                    last = str(name).rpartition(".")[2]
                    if is_private(last) or last == "__defaults__":
                        yield str(name)


def test_tests_use_no_private_name_of_the_product() -> None:
    used = {f"{path}: {name}" for path, tree in files() for name in private_names(tree)}
    assert used - PRIVATE.keys() == set()
    assert PRIVATE.keys() - used == set(), "exceptions that are not needed any more"


def test_tests_import_nothing_from_other_tests() -> None:
    imports = {
        f"{path}: {module}"
        for path, tree in files()
        for node in ast.walk(tree)
        for module in (
            [node.module] if isinstance(node, ast.ImportFrom) and node.module
            else [name.name for name in node.names] if isinstance(node, ast.Import)
            else []
        )
        if module.rpartition(".")[2].startswith("test_")
    }  # fmt: skip
    assert imports == set()

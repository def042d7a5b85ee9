"""Where Python files say which model is served, and how that is changed: every other byte stays."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from spark_cluster.commands import ClusterError

NAME = "model"
# Python's own line ends; bytes.splitlines knows more of them.
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")


@dataclass(frozen=True)
class ValuePlace:
    """A value in a file: its line (from 1), its bytes' range, the value itself."""

    line: int
    start: int
    end: int
    value: str | int


def in_hosts(source: bytes, file: str) -> list[ValuePlace]:
    """Values of "model" in an inventory's own data: {"model": …} and dict(model=…)."""
    return _places(source, file, _host_values)


def in_group(source: bytes, file: str) -> list[ValuePlace]:
    """Values assigned to `model` in a file of group data."""
    return _places(source, file, _assigned_values)


def replaced(source: bytes, places: list[ValuePlace], model: str) -> bytes:
    """The file with this model in each of the places."""
    for place in sorted(places, key=lambda p: p.start, reverse=True):
        source = source[: place.start] + literal(model).encode() + source[place.end :]
    return source


def appended(source: bytes, model: str) -> bytes:
    """The file with an assignment at its end, in its own line ends."""
    newline = b"\r\n" if b"\r\n" in source else b"\n"
    gap = b"" if not source or source.endswith((b"\n", b"\r")) else newline
    return source + gap + f"{NAME} = {literal(model)}".encode() + newline


def literal(model: str) -> str:
    """The model as Python writes a string; JSON's form is one."""
    return json.dumps(model, ensure_ascii=False)


def _places(
    source: bytes, file: str, values: Callable[[ast.Module], Iterator[ast.expr]]
) -> list[ValuePlace]:
    try:
        tree = ast.parse(source, filename=file)
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ClusterError(f"{file}{line} is not Python: {error.args[0]}") from None
    starts = [match.start() for match in _LINE.finditer(source)]
    return [_place(value, starts, source, file) for value in values(tree)]


def _place(value: ast.expr, starts: list[int], source: bytes, file: str) -> ValuePlace:
    start = starts[value.lineno - 1] + value.col_offset
    end = starts[(value.end_lineno or value.lineno) - 1] + (value.end_col_offset or 0)
    if isinstance(value, ast.Constant) and isinstance(value.value, str | int):
        return ValuePlace(value.lineno, start, end, value.value)
    text = source[start:end].decode(errors="replace")
    raise ClusterError(
        f"{file} line {value.lineno}: {NAME} is computed ({text}), which only you can change: "
        f"write a name there, such as {literal('gpt-oss-20b')}"
    )


def _host_values(tree: ast.Module) -> Iterator[ast.expr]:
    """Of every mapping that is not itself a value of another, as `env` would be."""
    nested = {id(value) for node in ast.walk(tree) for value in _values(node)}
    for node in ast.walk(tree):
        if id(node) in nested:
            continue
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == NAME:
                    yield value
        elif _makes_dict(node):
            yield from (word.value for word in node.keywords if word.arg == NAME)


def _values(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Dict):
        # {**shared} has no key there: what it unpacks is as good as written in its place.
        return [v for k, v in zip(node.keys, node.values, strict=True) if k is not None]
    return [word.value for word in node.keywords if word.arg] if _makes_dict(node) else []


def _makes_dict(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"


def _assigned_values(tree: ast.Module) -> Iterator[ast.expr]:
    for node in _module_level(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = any(isinstance(target, ast.Name) and target.id == NAME for target in targets)
        if isinstance(node, ast.Assign | ast.AnnAssign) and named and node.value is not None:
            yield node.value


def _module_level(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that make a module's own names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield child
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _module_level(child)

"""Find the model that an inventory names in its Python files, change it (and no other byte), and
read it back."""

import ast
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from spark_cluster.commands import ClusterError
from spark_cluster.project import Project

if TYPE_CHECKING:
    from cluster.catalog.models import Model

NAME = "model"
# The line ends that Python's parser counts.
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")


@dataclass(frozen=True)
class FileChange:
    """A file's content before and after; before: None for a file that does not exist yet."""

    file: Path
    before: bytes | None
    after: bytes

    def lines(self) -> list[str]:
        """The removed lines ("-…") and the added ones ("+…"), as a diff without context."""
        old, new = ((text or b"").decode().splitlines() for text in (self.before, self.after))
        return [*unified_diff(old, new, lineterm="", n=0)][2:]

    def write(self) -> None:
        """Put the new content in place."""
        write_file(self.file, self.after)

    def undo(self) -> None:
        """Restore the content from before; remove the file if there was none."""
        if self.before is None:
            self.file.unlink(missing_ok=True)
        else:
            write_file(self.file, self.before)


def find_model_or_fail(project: Project, word: str) -> "Model":
    """The model that a user's word names; ClusterError with the nearest names."""
    load_catalog(project)
    from cluster.catalog.models import find_model
    from cluster.findings import Refused

    try:
        return find_model(word)
    except Refused as refused:
        what = refused.findings[0].what
        raise ClusterError(f"{what} -> spark-cluster models lists them") from None


def load_catalog(project: Project) -> "Sequence[Model]":
    """The catalog, with the entries beside the inventory; ClusterError where one is wrong."""
    project.core()
    from cluster.catalog.models import catalog, include
    from cluster.findings import Refused

    try:
        include(project.inventory.with_name("catalog"))
    except Refused as refused:
        raise ClusterError("\n".join(map(str, refused.findings))) from None
    return catalog()


def check_feasible(project: Project, model: "Model") -> Mapping[str, Any]:
    """How a deploy would spread the model; ClusterError if it would refuse it."""
    case = {"model": short_name(model)}
    data = {"light": str(project.inventory), "cases": [case]}
    verdict: dict[str, Any] = project.fetch("feasible", data, hosts="@local")["verdicts"][0]
    if verdict["errors"]:
        raise ClusterError("\n".join(["nothing was written:", *verdict["errors"]]))
    return verdict


def write_choice(project: Project, model: "Model") -> list[FileChange]:
    """Write the choice, read it back, and return what changed; [] if it was chosen already.

    ClusterError if another setting overrides it; the files are then as they were.
    """
    planned = plan_changes(project, short_name(model))
    changes = [change for change in planned if change.after != change.before]
    for change in changes:
        change.write()
    try:
        effective = project.fetch("listing", {"light": str(project.inventory)}, hosts="@local")
    except ClusterError as error:
        _undo(changes)
        raise ClusterError(f"nothing was written: {error.message}") from None
    except BaseException:
        _undo(changes)
        raise
    if effective["model"] != model.id:
        _undo(changes)
        inventory = project.inventory
        folders = dict.fromkeys([project.root / "group_data", inventory.parent / "group_data"])
        others = [file for folder in folders for file in sorted(folder.glob("*.py"))]
        stronger = [f for f in others if f.stem != "all" and in_group(f.read_bytes(), f.name)]
        files = ", ".join(map(relative_path, stronger or [inventory]))
        what = f"a stronger setting makes the model {effective['model']}: look in {files}"
        raise ClusterError(f"nothing was written: {what}")
    return changes


def plan_changes(project: Project, name: str) -> list[FileChange]:
    """Every place in the inventory, and in its group data, that says which model is served.

    If there is none: an assignment in the group data of the inventory's own group. That overrides
    group_data/all.py, and leaves the inventory as it is.
    """
    inventory, group = project.inventory, group_file(project.inventory)
    changes = []
    source = inventory.read_bytes()
    if places := in_hosts(source, relative_path(inventory)):
        changes.append(FileChange(inventory, source, replaced(source, places, name)))
    before = group.read_bytes() if group.is_file() else None
    assigned = in_group(before or b"", relative_path(group))
    if assigned and before is not None:
        changes.append(FileChange(group, before, replaced(before, assigned, name)))
    if not changes:
        new = f'"""What {inventory.name} serves, and what else all of its nodes share."""\n\n'
        changes.append(FileChange(group, before, appended(before or new.encode(), name)))
    return changes


def group_file(inventory: Path) -> Path:
    """pyinfra puts every host of an inventory into a group of the file's name."""
    return inventory.parent / "group_data" / f"{inventory.name.rsplit('.', 1)[0]}.py"


def short_name(model: "Model") -> str:
    return model.alias or model.id


def relative_path(file: Path) -> str:
    """The path, relative to the current folder if it is inside."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def _undo(changes: list[FileChange]) -> None:
    for change in changes:
        change.undo()


def write_file(file: Path, content: bytes) -> None:
    """Replace the file atomically, so that nobody reads half of it.

    ClusterError if it can't be written.
    """
    target = file.resolve()
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(exist_ok=True)
        part.write_bytes(content)
        if target.exists():
            part.chmod(target.stat().st_mode)
        os.replace(part, target)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise ClusterError(f"{relative_path(file)} can't be written: {error.strerror}") from None


# ---- where Python files name the model


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
    """The model as a Python string literal; a JSON string is one."""
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
    places = []
    for value in values(tree):
        start = starts[value.lineno - 1] + value.col_offset
        end = starts[(value.end_lineno or value.lineno) - 1] + (value.end_col_offset or 0)
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str | int)):
            text = source[start:end].decode(errors="replace")
            raise ClusterError(
                f"{file} line {value.lineno}: {NAME} is computed ({text}), which only you can "
                f"change: write a name there, such as {literal('gpt-oss-20b')}"
            )
        places.append(ValuePlace(value.lineno, start, end, value.value))
    return places


def _host_values(tree: ast.Module) -> Iterator[ast.expr]:
    """The value of "model" in each mapping, except a mapping nested in another, such as `env`."""
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
        # {**shared} has no key: what it unpacks counts as written in its place, not as nested.
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
    """Every statement outside functions and classes: those that can set module-level names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield child
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _module_level(child)

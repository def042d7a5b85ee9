"""Find the model and the variant that an inventory names in its Python files, change them (and no
other byte), and read them back."""

import ast
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from spark_cluster.commands import ClusterError
from spark_cluster.project import Project

if TYPE_CHECKING:
    from cluster.catalog.entry import Variant
    from cluster.catalog.models import Model

# The settings that are written, and what an inventory could say instead of a computed value.
EXAMPLES = {"model": "gpt-oss-20b", "variant": "auto"}
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


def page_document(project: Project, word: str) -> dict[str, Any]:
    """All that is known of the model that a user's word names; ClusterError with the nearest
    names."""
    model = find_model_or_fail(project, word)
    from cluster.reports.model_page import model_page

    return asdict(model_page(model))


@dataclass(frozen=True)
class ChosenVariant:
    """The variant that a choice comes to.

    + name: as it is written; "": none is, and the model's default is served
    + served: None for a model without variants
    + foreign: variants that the inventory declares, and that the model lacks
    """

    name: str
    served: "Variant | None"
    foreign: tuple[str, ...]


def choose_variant_or_fail(project: Project, model: "Model", wanted: str = "") -> ChosenVariant:
    """The variant that is wanted, else the declared one if the model has it, else its default.

    ClusterError with the names there are, for a wrong one and where one must be chosen.
    """
    from cluster.findings import Refused
    from cluster.settings.resolve import choose_variant

    places = [
        place
        for file, find in _sources(project)
        if file.is_file()
        for place in find(file.read_bytes(), relative_path(file), "variant")
    ]
    declared = [str(v) for v in dict.fromkeys(place.value for place in places) if v != "auto"]
    names = [variant.name for variant in model.variants]
    foreign = tuple(name for name in declared if name not in names)
    name = wanted or (declared[0] if declared and not foreign else "")
    try:
        return ChosenVariant(name, choose_variant(model, name or "auto"), foreign)
    except Refused as refused:
        cure = " ".join(
            ["spark-cluster use", short_name(model), *(f"--variant {n}" for n in names[:1])]
        )
        raise ClusterError(f"{refused.findings[0].what} -> {cure}") from None


def check_feasible(project: Project, model: "Model", variant: str) -> Mapping[str, Any]:
    """How a deploy would spread the model; ClusterError if it would refuse it."""
    case = {"model": short_name(model), "variant": variant or "auto"}
    data = {"light": str(project.inventory), "cases": [case]}
    verdict: dict[str, Any] = project.fetch("feasible", data, hosts="@local")["verdicts"][0]
    if verdict["errors"]:
        raise ClusterError("\n".join(["nothing was written:", *verdict["errors"]]))
    return verdict


def write_choice(project: Project, model: "Model", variant: ChosenVariant) -> list[FileChange]:
    """Write the choice, read it back, and return what changed; [] if it was chosen already.

    ClusterError if another setting overrides it; the files are then as they were.
    """
    planned = plan_file_changes(project, {"model": short_name(model), "variant": variant.name})
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
    wanted = {"model": model.id, "variant": variant.served.name if variant.served else ""}
    for setting, value in wanted.items():
        if effective[setting] != value:
            _undo(changes)
            folders = dict.fromkeys(
                [project.root / "group_data", project.inventory.parent / "group_data"]
            )
            others = (file for folder in folders for file in sorted(folder.glob("*.py")))
            stronger = [
                file
                for file in others
                if file.stem != "all" and in_group(file.read_bytes(), file.name, setting)
            ]
            files = ", ".join(map(relative_path, stronger or [project.inventory]))
            what = f"a stronger setting makes the {setting} {effective[setting]}: look in {files}"
            raise ClusterError(f"nothing was written: {what}")
    return changes


def plan_file_changes(project: Project, settings: Mapping[str, str]) -> list[FileChange]:
    """Every place in the inventory, and in its group data, that names one of these settings.

    If there is none: an assignment in the group data of the inventory's own group. That overrides
    group_data/all.py, and leaves the inventory as it is.

    + settings: their values; "": `auto` takes the place of a value, and nothing is added
    """
    before = {file: file.read_bytes() if file.is_file() else None for file, _ in _sources(project)}
    after, group = dict(before), group_file(project.inventory)
    for setting, value in settings.items():
        named = False
        for file, find in _sources(project):
            source = after[file] or b""
            if places := find(source, relative_path(file), setting):
                after[file], named = replaced(source, places, value or "auto"), True
        if value and not named:
            new = f'"""What {project.inventory.name} serves, and what else its nodes share."""\n\n'
            after[group] = appended(after[group] or new.encode(), setting, value)
    return [
        FileChange(file, before[file], text) for file, text in after.items() if text is not None
    ]


def _sources(project: Project) -> tuple[tuple[Path, "Find"], ...]:
    """The two files that are written, and how each is searched."""
    return ((project.inventory, in_hosts), (group_file(project.inventory), in_group))


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


Find = Callable[[bytes, str, str], list[ValuePlace]]


def in_hosts(source: bytes, file: str, setting: str) -> list[ValuePlace]:
    """A setting's values in an inventory's own data: {"model": …} and dict(model=…)."""
    return _places(source, file, setting, _host_values)


def in_group(source: bytes, file: str, setting: str) -> list[ValuePlace]:
    """Values assigned to a setting in a file of group data."""
    return _places(source, file, setting, _assigned_values)


def replaced(source: bytes, places: list[ValuePlace], value: str) -> bytes:
    """The file with this value in each of the places."""
    for place in sorted(places, key=lambda p: p.start, reverse=True):
        source = source[: place.start] + literal(value).encode() + source[place.end :]
    return source


def appended(source: bytes, setting: str, value: str) -> bytes:
    """The file with an assignment at its end, in its own line ends."""
    newline = b"\r\n" if b"\r\n" in source else b"\n"
    gap = b"" if not source or source.endswith((b"\n", b"\r")) else newline
    return source + gap + f"{setting} = {literal(value)}".encode() + newline


def literal(value: str) -> str:
    """The value as a Python string literal; a JSON string is one."""
    return json.dumps(value, ensure_ascii=False)


def _places(
    source: bytes, file: str, setting: str, values: Callable[[ast.Module, str], Iterator[ast.expr]]
) -> list[ValuePlace]:
    try:
        tree = ast.parse(source, filename=file)
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ClusterError(f"{file}{line} is not Python: {error.args[0]}") from None
    starts = [match.start() for match in _LINE.finditer(source)]
    places = []
    for value in values(tree, setting):
        start = starts[value.lineno - 1] + value.col_offset
        end = starts[(value.end_lineno or value.lineno) - 1] + (value.end_col_offset or 0)
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str | int)):
            text = source[start:end].decode(errors="replace")
            raise ClusterError(
                f"{file} line {value.lineno}: {setting} is computed ({text}), which only you can "
                f"change: write a name there, such as {literal(EXAMPLES[setting])}"
            )
        places.append(ValuePlace(value.lineno, start, end, value.value))
    return places


def _host_values(tree: ast.Module, setting: str) -> Iterator[ast.expr]:
    """The setting's value in each mapping, except a mapping nested in another, such as `env`."""
    nested = {id(value) for node in ast.walk(tree) for value in _values(node)}
    for node in ast.walk(tree):
        if id(node) in nested:
            continue
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == setting:
                    yield value
        elif _makes_dict(node):
            yield from (word.value for word in node.keywords if word.arg == setting)


def _values(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Dict):
        # {**shared} has no key: what it unpacks counts as written in its place, not as nested.
        return [v for k, v in zip(node.keys, node.values, strict=True) if k is not None]
    return [word.value for word in node.keywords if word.arg] if _makes_dict(node) else []


def _makes_dict(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"


def _assigned_values(tree: ast.Module, setting: str) -> Iterator[ast.expr]:
    for node in _module_level(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = any(isinstance(target, ast.Name) and target.id == setting for target in targets)
        if isinstance(node, ast.Assign | ast.AnnAssign) and named and node.value is not None:
            yield node.value


def _module_level(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement outside functions and classes: those that can set module-level names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield child
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _module_level(child)

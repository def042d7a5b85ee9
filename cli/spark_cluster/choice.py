"""The model that an inventory serves: places out, changed, and read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_cluster import edit
from spark_cluster.commands import ClusterError
from spark_cluster.project import Project

if TYPE_CHECKING:
    from cluster.catalog.models import Model


@dataclass(frozen=True)
class FileChange:
    """What a file says, and what it shall say; before: None for a file that is not there yet."""

    file: Path
    before: bytes | None
    after: bytes

    def lines(self) -> list[str]:
        """The lines that go ("-…") and that come ("+…")."""
        old, new = ((text or b"").decode().splitlines() for text in (self.before, self.after))
        return [*unified_diff(old, new, lineterm="", n=0)][2:]

    def write(self) -> None:
        """Put the new content in place."""
        write_file(self.file, self.after)

    def undo(self) -> None:
        """As it was before."""
        if self.before is None:
            self.file.unlink(missing_ok=True)
        else:
            write_file(self.file, self.before)


def find_model_or_fail(project: Project, word: str) -> Model:
    """The model that a user calls so; ClusterError with the nearest names."""
    project.core()
    from cluster.catalog.models import find_model
    from cluster.findings import Refused

    try:
        return find_model(word)
    except Refused as refused:
        what = refused.findings[0].what
        raise ClusterError(f"{what} -> spark-cluster models lists them") from None


def check_feasible(project: Project, model: Model) -> Mapping[str, Any]:
    """How a deploy would spread the model; ClusterError where it would refuse it."""
    case = {"model": short_name(model)}
    data = {"light": str(project.inventory), "cases": [case]}
    verdict: dict[str, Any] = project.fetch("feasible", data, hosts="@local")["verdicts"][0]
    if verdict["errors"]:
        raise ClusterError("\n".join(["nothing was written:", *verdict["errors"]]))
    return verdict


def write_choice(project: Project, model: Model) -> list[FileChange]:
    """Write the choice, read it back, and return what changed; [] where it was chosen already.

    ClusterError where something stronger decides; the files are then as they were.
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
        raise ClusterError(_stronger(project, effective["model"]))
    return changes


def plan_changes(project: Project, name: str) -> list[FileChange]:
    """Every place in the inventory, and in its group data, that says which model is served.

    Where there is none: an assignment in the group data of the inventory's own group. That wins
    over group_data/all.py, and leaves the inventory as it is.
    """
    inventory, group = project.inventory, group_file(project.inventory)
    changes = []
    source = inventory.read_bytes()
    if places := edit.in_hosts(source, relative_path(inventory)):
        changes.append(FileChange(inventory, source, edit.replaced(source, places, name)))
    before = group.read_bytes() if group.is_file() else None
    assigned = edit.in_group(before or b"", relative_path(group))
    if assigned and before is not None:
        changes.append(FileChange(group, before, edit.replaced(before, assigned, name)))
    if not changes:
        changes.append(FileChange(group, before, edit.appended(before or _new(inventory), name)))
    return changes


def group_file(inventory: Path) -> Path:
    """pyinfra puts every host of an inventory into a group of the file's name."""
    return inventory.parent / "group_data" / f"{inventory.name.rsplit('.', 1)[0]}.py"


def short_name(model: Model) -> str:
    return model.alias or model.id


def relative_path(file: Path) -> str:
    """The path as short as it is from here."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def _new(inventory: Path) -> bytes:
    return f'"""What {inventory.name} serves, and what else all of its nodes share."""\n\n'.encode()


def _stronger(project: Project, model: str) -> str:
    folders = dict.fromkeys([project.root / "group_data", project.inventory.parent / "group_data"])
    others = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    setting = [f for f in others if f.stem != "all" and edit.in_group(f.read_bytes(), f.name)]
    files = ", ".join(map(relative_path, setting or [project.inventory]))
    return f"nothing was written: a stronger setting makes the model {model}: look in {files}"


def _undo(changes: list[FileChange]) -> None:
    for change in changes:
        change.undo()


def write_file(file: Path, content: bytes) -> None:
    """The file with this content, as a whole: nobody reads a half."""
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

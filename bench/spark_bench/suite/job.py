"""What a folder was begun for: job.json, and what differs where it is gone on with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

import spark_bench
from spark_bench.errors import BadInput
from spark_bench.project import inventory_file
from spark_bench.results.machine import commit
from spark_bench.suite.asked import Asked, Settings
from spark_bench.suite.output import Load
from spark_bench.suite.plan import NO_TOKEN, Cell

FILE = "job.json"
# What is read of a project for every deploy, beside the inventory.
GROUP_DATA = Path("inventories", "group_data", "all.py")


class Part(Struct, frozen=True, kw_only=True):
    """A cell as the job has it."""

    name: str
    model: str
    settings: Settings = {}
    skip: str = ""


class Job(Struct, frozen=True, kw_only=True):
    """Everything that decides what is measured: two equal jobs give the same results.

    settings_sha256: of the inventory and of the project's group data
    commit: of the project; "-dirty" where tracked files differ from it
    """

    client: str
    project: str
    commit: str
    inventory: str
    settings_sha256: str
    load: Load
    parts: tuple[Part, ...]


class Before(Struct, frozen=True, kw_only=True):
    """What was served before the first deploy; data: for the deploy that brings it back."""

    model: str
    data: Settings
    specs: tuple[str, ...]


class JobFile(Struct, frozen=True, kw_only=True):
    """job.json. typed: the options, for a resume that doesn't give them again."""

    kind: str = "spark-bench all job"
    version: int = 1
    created: str
    typed: dict[str, Any]
    job: Job
    before: Before | None = None


def job(asked: Asked, cells: list[Cell]) -> Job:
    """Of what was asked and what came of it."""
    found = commit(asked.project)
    inventory = inventory_file(asked.project, asked.inventory)
    profile = asked.profile
    return Job(
        client=spark_bench.__version__,
        project=str(asked.project.resolve()),
        commit=(found.sha + ("-dirty" if found.dirty else "")) if found else "",
        inventory=str(inventory),
        settings_sha256=_digest(inventory, asked.project / GROUP_DATA),
        load=Load(
            profile=profile.name,
            num_prompts=profile.num_prompts,
            input_len=profile.input_len,
            output_len=profile.output_len,
            request_rate=profile.request_rate,
            concurrency=profile.concurrency,
            repeat=asked.repeat,
        ),
        parts=tuple(
            # A token may be there when the run is gone on with.
            Part(
                name=c.name,
                model=c.model,
                settings=c.settings,
                skip="" if c.skip == NO_TOKEN else c.skip,
            )
            for c in cells
        ),
    )


def read(folder: Path) -> JobFile:
    """The job of a folder; BadInput where it holds none."""
    try:
        data = (folder / FILE).read_bytes()
        return msgspec.json.decode(data, type=JobFile)
    except OSError as error:
        raise BadInput(
            f"--resume {folder}: {FILE} can't be read ({error.strerror}): give a folder that "
            "spark-bench all has written"
        ) from None
    except msgspec.DecodeError as error:
        raise BadInput(f"--resume {folder}: {FILE} is none of spark-bench all ({error})") from None


def refuse_changed(old: Job, new: Job, folder: Path) -> None:
    """BadInput that says what changed, where anything did."""
    changes = list(differences(old, new))
    if changes:
        raise BadInput(
            f"--resume {folder}: the job has changed, and its results would not fit together:\n  "
            + "\n  ".join(changes)
            + "\nundo that, or begin anew without --resume"
        )


def differences(old: Job, new: Job) -> Iterator[str]:
    """What is not the same, each in words."""
    before, after = (msgspec.to_builtins(each) for each in (old, new))
    parts = [{p["name"]: p for p in each.pop("parts")} for each in (before, after)]
    for name, was, now in _pairs(_flat(before), _flat(after)):
        yield f"{name}: {_shown(was)} -> {_shown(now)}"
    for name, was, now in _pairs(*parts):
        if was is None or now is None:
            yield f"{name}: {'is new' if was is None else 'is gone'}"
        else:
            yield from (
                f"{name}: {key}: {_shown(one)} -> {_shown(other)}"
                for key, one, other in _pairs(_flat(was), _flat(now))
            )


def _flat(nested: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        inner = _flat(value, f"{above}{name}.") if isinstance(value, dict) else None
        flat |= {f"{above}{name}": value} if inner is None else inner
    return flat


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "(none)"
    text = str(value)
    return f"{text[:12]}…{text[-6:]}" if len(text) >= 40 and text.isalnum() else text


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()

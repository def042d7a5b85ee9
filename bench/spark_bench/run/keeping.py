"""A finished run as a result, written down; what can't be written is handed back to be printed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from spark_bench import history
from spark_bench.options import RunOptions
from spark_bench.results.atomic import NotSaved
from spark_bench.results.config import Config
from spark_bench.results.facts import Provenance
from spark_bench.results.files import (
    default_path,
    requests_path,
    save_somewhere,
    write,
)
from spark_bench.results.repeats import combined
from spark_bench.results.requests import Row, to_row, write_requests
from spark_bench.results.types import Measured as Parts
from spark_bench.results.types import Result, new_id
from spark_bench.run.measure import Measured


@dataclass(frozen=True)
class Kept:
    """A result and where it is.

    path: None: not where it should be, so that it has to be printed
    misplaced: it, or its requests, could not be written there; `notes` say where they are
    """

    result: Result
    path: Path | None
    misplaced: bool = False
    notes: tuple[str, ...] = ()


def keep(
    options: RunOptions,
    config: Config,
    provenance: Provenance,
    repeats: Sequence[Measured],
    notes: Sequence[str],
    *,
    reason: str = "",
    point: str = "",
) -> Kept:
    """Write a run's result, and its requests beside it with --save-requests.

    reason: why it is partial; "": it is whole
    point: tells the files of a sweep's points apart ("_c8")
    """
    path = _path(options, point)
    told: list[str] = []
    saved = _save_requests(path, repeats, told) if options.save_requests else None
    result = _result(config, provenance, repeats, notes, saved, reason)
    try:
        write(result, path)
    except NotSaved as error:
        told.append(error.message)
        spare = Path(tempfile.gettempdir()) / path.name
        found = save_somewhere(error.data, [Path.cwd() / path.name, spare])
        told.append(f"It is printed{f', and written to {found}' if found else ''} instead.")
        return Kept(result, None, True, tuple(told))
    misplaced = bool(told)
    told += _remembered(result, path) if options.history else ()
    return Kept(result, path, misplaced, tuple(told))


def _remembered(result: Result, path: Path) -> Iterator[str]:
    """Add it to the history; a note where that can't be."""
    try:
        history.add(result, path)
    except click.ClickException as error:
        yield f"not in the history: {error.message}"


def _path(options: RunOptions, point: str) -> Path:
    if options.output is None:
        return default_path(f"{options.profile.name}{point}", datetime.now())
    return options.output.with_stem(options.output.stem + point) if point else options.output


def _save_requests(path: Path, repeats: Sequence[Measured], told: list[str]) -> Path | None:
    """The file beside the result; None if they had to go elsewhere, which `told` then tells."""
    place = requests_path(path)
    try:
        write_requests(_rows(repeats), place)
        return place
    except NotSaved as error:
        told.append(error.message)
    with suppress(OSError, NotSaved):
        spare = Path(tempfile.mkdtemp(prefix="spark-bench-")) / place.name
        write_requests(_rows(repeats), spare)
        told.append(f"The requests were written to {spare} instead.")
    return None


def _rows(repeats: Sequence[Measured]) -> Iterator[Row]:
    return (to_row(r, m.started_ns, m.repeat.repeat) for m in repeats for r in m.requests)


def _result(
    config: Config,
    provenance: Provenance,
    repeats: Sequence[Measured],
    notes: Sequence[str],
    saved: Path | None,
    reason: str,
) -> Result:
    now = datetime.now(UTC)
    whole = combined([m.repeat for m in repeats])
    parts = {name: getattr(whole, name) for name in Parts.__struct_fields__}
    return Result(
        **parts | {"requests_file": saved.name if saved else None},
        id=new_id(now),
        created=now,
        status="partial" if reason else "complete",
        reason=reason,
        config=config,
        provenance=provenance,
        repeats=tuple(m.repeat for m in repeats) if len(repeats) > 1 else (),
        notes=tuple(notes),
    )

"""A finished run as a result, written down; what can't be written is handed back to be printed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from spark_bench.cli.options import RunOptions
from spark_bench.result.atomic import NotSaved
from spark_bench.result.config import Config
from spark_bench.result.facts import Provenance
from spark_bench.result.files import (
    default_path,
    requests_path,
    save_somewhere,
    write,
)
from spark_bench.result.repeats import combined
from spark_bench.result.requests import to_row, write_requests
from spark_bench.result.types import Measured as Parts
from spark_bench.result.types import Result, new_id
from spark_bench.run.measure import Measured


@dataclass(frozen=True)
class Kept:
    """A result and where it is; path None: it could not be written, and has to be printed."""

    result: Result
    path: Path | None
    notes: tuple[str, ...] = ()


def keep(
    options: RunOptions,
    config: Config,
    provenance: Provenance,
    repeats: Sequence[Measured],
    notes: Sequence[str],
    *,
    point: str = "",
) -> Kept:
    """Write a run's result, and its requests beside it with --save-requests.

    point: tells the files of a sweep's points apart ("_c8")
    """
    path = _path(options, point)
    told: list[str] = []
    saved = _save_requests(path, repeats, told) if options.save_requests else None
    result = _result(config, provenance, repeats, notes, saved)
    try:
        write(result, path)
    except NotSaved as error:
        told.append(error.message)
        spare = Path(tempfile.gettempdir()) / path.name
        found = save_somewhere(error.data, [Path.cwd() / path.name, spare])
        told.append(f"It was written to {found} instead." if found else "It is printed instead.")
        return Kept(result, found, tuple(told))
    return Kept(result, path, tuple(told))


def _path(options: RunOptions, point: str) -> Path:
    if options.output is None:
        return default_path(f"{options.profile.name}{point}", datetime.now())
    return options.output.with_stem(options.output.stem + point) if point else options.output


def _save_requests(path: Path, repeats: Sequence[Measured], told: list[str]) -> Path | None:
    rows = (to_row(r, m.started_ns, m.repeat.repeat) for m in repeats for r in m.requests)
    try:
        write_requests(rows, requests_path(path))
    except NotSaved as error:
        told.append(error.message)
        return None
    return requests_path(path)


def _result(
    config: Config,
    provenance: Provenance,
    repeats: Sequence[Measured],
    notes: Sequence[str],
    saved: Path | None,
) -> Result:
    now = datetime.now(UTC)
    interrupted = any(m.interrupted for m in repeats) or len(repeats) < config.repeat
    whole = combined([m.repeat for m in repeats])
    parts = {name: getattr(whole, name) for name in Parts.__struct_fields__}
    return Result(
        **parts | {"requests_file": saved.name if saved else None},
        id=new_id(now),
        created=now,
        status="partial" if interrupted else "complete",
        reason="stopped by Ctrl-C" if interrupted else "",
        config=config,
        provenance=provenance,
        repeats=tuple(m.repeat for m in repeats) if len(repeats) > 1 else (),
        notes=tuple(notes),
    )

"""What `execute` gives back: the seam between the commands and a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from spark_bench.results.types import Result


class Outcome(Struct, frozen=True):
    """A run that ended, well or not.

    results: one, or in a sweep one a point
    written: their files; fewer than `results`: some could not be written, and `notes` say why
    failed, total: requests over all repeats and points, warm-up left out
    interrupted: Ctrl-C ended it early
    misplaced: something could not be written where it should, and is elsewhere
    notes: what the user should know besides, a line each
    """

    results: tuple[Result, ...]
    written: tuple[Path, ...]
    failed: int
    total: int
    interrupted: bool = False
    misplaced: bool = False
    notes: tuple[str, ...] = ()

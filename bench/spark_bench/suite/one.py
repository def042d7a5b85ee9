"""One model: converge, look, measure; whatever goes wrong is its row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from spark_bench import project
from spark_bench.display.figures import duration
from spark_bench.errors import BadInput, BenchError
from spark_bench.project import Listing
from spark_bench.results.codec import read
from spark_bench.results.types import Result
from spark_bench.secret import VARIABLE, project_key
from spark_bench.suite import converge, measure, served
from spark_bench.suite.asked import Asked, Settings
from spark_bench.suite.child import Ended, follow
from spark_bench.suite.folder import UNFINISHED
from spark_bench.suite.plan import Cell
from spark_bench.suite.rows import Row, row
from spark_bench.suite.status import Failure
from spark_bench.suite.steps import Steps


@dataclass(frozen=True)
class Stage:
    """Where commands are carried out: their output goes to `log`, their last line is shown."""

    asked: Asked
    steps: Steps
    log: BinaryIO

    def deploy(self, data: Settings) -> Ended:
        """Converge the nodes."""
        asked = self.asked
        inventory = project.inventory_file(asked.project, asked.inventory)
        words = converge.words(project.pyinfra(asked.project), inventory, data)
        return self._follow(words, asked.startup_timeout, anew=converge.Downloads())

    def bench(self, cell: Cell) -> tuple[Ended, Result | None, str | None]:
        """Measure what is served: how that ended, the result, and its file's name."""
        draft = self.asked.folder / UNFINISHED / f"{cell.name}.json"
        words = measure.words(self.asked, cell.served, draft)
        ended = self._follow(words, self.asked.bench_timeout, here=True)
        try:
            result = read(draft)
        except BadInput:
            return ended, None, None
        os.replace(draft, self.asked.folder / result_name(cell))
        return ended, result, result_name(cell)

    def _follow(
        self,
        words: list[str],
        seconds: float,
        here: bool = False,
        anew: Callable[[str], bool] = lambda line: False,
    ) -> Ended:
        self.log.write(f"$ {' '.join(words)}\n".encode())
        cwd = None if here else self.asked.project
        # The server's key is for who asks the server, and not for who deploys it; one that is in a
        # file stays there.
        passed_on = self.asked.api_key if here and not self.asked.api_key_file else None
        key = {VARIABLE: passed_on.reveal()} if passed_on else {}
        return follow(words, cwd, self.log, seconds, self.steps.below, os.environ | key, anew)


def result_name(cell: Cell) -> str:
    """Of the result file in the folder."""
    return f"{cell.name}_benchmark.json"


def one(asked: Asked, steps: Steps, cell: Cell, place: str) -> Row:
    """The row of a cell. place: what it is called in the progress."""
    log = asked.folder / f"{cell.name}.log"
    with suppress(FileNotFoundError):  # of an earlier sitting, where it failed
        (asked.folder / result_name(cell)).unlink()
    with log.open("wb") as file:
        known: dict[str, Any] = {"started": round(time.time(), 3), "log": log.name}
        found = _row(Stage(asked, steps, file), cell, place, known)
    steps.step(f"{place}: {_said(found)}")
    return found


def _row(stage: Stage, cell: Cell, place: str, known: dict[str, Any]) -> Row:
    stage.steps.step(f"{place}: converging")
    ended = stage.deploy(cell.data)
    known["startup_seconds"] = round(ended.seconds, 3)
    listing = _serving(stage.asked, cell, ended)
    if isinstance(listing, Failure):
        return row(cell, listing, **known)
    assert listing.head
    stage.steps.step(f"{place}: served after {duration(ended.seconds)}, measuring")
    ended, result, file = stage.bench(cell)
    known |= {"bench_seconds": round(ended.seconds, 3), "file": file}
    failure = measure.failure(ended, result, stage.asked, listing.head.spec)
    return row(cell, failure, result, **known)


def _serving(asked: Asked, cell: Cell, ended: Ended) -> Listing | Failure:
    """What runs after a deploy, or why it is not what was wanted."""
    if failure := converge.failure(ended, asked.startup_timeout):
        return failure
    try:
        listing = project.find(asked.project, asked.inventory)
    except BenchError as error:
        return Failure("STARTUP_FAILED", error.message)
    assert listing
    try:
        key = asked.api_key or project_key(listing.api_key_file)
    except BadInput as error:
        return Failure("STARTUP_FAILED", error.message)
    wrong = served.problem(cell, listing, served.models(listing.url, key))
    return Failure("STARTUP_FAILED", wrong) if wrong else listing


def _said(row: Row) -> str:
    from spark_bench.display.figures import digits

    if row.status != "OK":
        return f"{row.status}: {row.diagnosis}"
    return f"OK: {digits(row.output_throughput)} tok/s, TTFT {digits(row.ttft_ms)} ms"

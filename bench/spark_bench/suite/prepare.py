"""From what was asked to a plan, and from a plan to a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import msgspec

from spark_bench import project
from spark_bench.errors import BadInput, BenchError
from spark_bench.project import Listing
from spark_bench.suite import folder, job, output
from spark_bench.suite.asked import Asked, Settings
from spark_bench.suite.before import before
from spark_bench.suite.estimate import Estimate
from spark_bench.suite.job import Job, JobFile
from spark_bench.suite.plan import Cell, Verdict, cells, judged, refuse_empty
from spark_bench.suite.steps import Steps
from spark_bench.suite.story import Run

FEASIBLE = "deploys/feasible.py"
VERSION = 1
# One argument of a command line is 128 KiB at most (Linux, MAX_ARG_STRLEN).
AT_ONCE = 200


class _Document(msgspec.Struct, frozen=True):
    version: int
    verdicts: tuple[Verdict, ...]


def planned(asked: Asked) -> list[Cell]:
    """All cells, those that can't be with their reason; no node is asked. BadInput for none."""
    listing = _listing(asked, light=True)
    made = cells(asked, listing)
    verdicts = [
        v for at in range(0, len(made), AT_ONCE) for v in _verdicts(asked, made[at : at + AT_ONCE])
    ]
    found = judged(made, verdicts, asked.skip_token)
    refuse_empty(found)
    return found


def estimates(asked: Asked, load: output.Load) -> dict[str, Estimate]:
    """What cells took in earlier runs of the same load, by name; the newest counts."""
    return {
        row.name: Estimate(row.startup_seconds, row.bench_seconds, True)
        for results in folder.earlier(asked.folder.parent)
        if results.config == load
        for row in results.results
        if row.status == "OK" and row.startup_seconds and row.bench_seconds
    }


def kept(asked: Asked, made: list[Cell]) -> set[str]:
    """Names of what a resume leaves as it is. BadInput where the folder is another job's."""
    if not asked.resume:
        if (asked.folder / job.FILE).exists():
            raise BadInput(
                f"{asked.folder} holds a run already: go on with it with --resume {asked.folder}, "
                "or name another folder with --output-dir"
            )
        return set()
    job.refuse_changed(job.read(asked.resume).job, job.job(asked, made), asked.resume)
    found = folder.results(asked.resume)
    return set(folder.done(asked.resume, found.results)) if found else set()


@contextmanager
def begun(asked: Asked, made: list[Cell], steps: Steps) -> Iterator[Run]:
    """A run with its folder, new or gone on with; it is ours alone meanwhile."""
    with folder.held(asked.folder):
        kept(asked, made)
        if asked.resume:
            yield _resumed(asked, made, steps)
        else:
            yield Run(asked, _file(asked, job.job(asked, made)), made, steps)


def _resumed(asked: Asked, made: list[Cell], steps: Steps) -> Run:
    found = folder.results(asked.folder)
    run = Run(asked, job.read(asked.folder), made, steps)
    if found is not None:
        run.rows = folder.done(asked.folder, found.results)
        run.earlier, run.restored = found.total_time_seconds, found.restored
        run.touched = not found.restored
    return run


def _file(asked: Asked, new: Job) -> JobFile:
    made = JobFile(
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        typed=asked.typed,
        job=new,
        before=before(_now(asked)) if asked.restore else None,
    )
    folder.begin(asked.folder, made)
    return made


def _now(asked: Asked) -> Listing:
    try:
        return _listing(asked)
    except BenchError as error:
        raise BenchError(
            f"what is served now can't be read, so it could not be served again at the end: "
            f"{error.message.removesuffix('; measure with --url')}; --no-restore goes on without"
        ) from None


def _listing(asked: Asked, light: bool = False) -> Listing:
    found = project.find(asked.project, asked.inventory, light=light)
    if found is None:
        raise BadInput(
            f"--project {asked.project}: there is no {project.LISTING} in it: give the folder of "
            "the project that deploys the models"
        )
    return found


def _verdicts(asked: Asked, some: Sequence[Cell]) -> tuple[Verdict, ...]:
    """What the project says of their settings, without asking a node."""
    file = project.inventory_file(asked.project, asked.inventory)
    cases: list[Settings] = [cell.data for cell in some]
    data = ["--data", f"light={file}", "--data", f"cases={json.dumps(cases)}"]
    printed = project.ask(asked.project, ["-y", "@local", FEASIBLE, *data], project.SECONDS)
    try:
        found = msgspec.json.decode(printed, type=_Document)
    except msgspec.DecodeError as error:
        raise BenchError(f"{FEASIBLE} printed no verdicts ({error}): {printed[:200]!r}") from None
    if found.version != VERSION:
        raise BenchError(
            f"{FEASIBLE} has version {found.version}, this spark-bench reads {VERSION}: install "
            "the project's own bench/ (pip install ./bench)"
        )
    return found.verdicts

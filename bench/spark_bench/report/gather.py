"""Files, folders and globs to runs; each result is read once and reduced to what the page needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.report.named_runs import ReportRun, report_run
from spark_bench.results.codec import NOT_JSON, read_result
from spark_bench.results.files import FOLDER, claims_result, find_files
from spark_bench.results.suite_results import SUITE_RESULTS, SuiteResults


class Gathered(Struct, frozen=True):
    """The runs that the arguments name.

    words: the arguments
    unmeasured: rows of `spark-bench all` without a result
    damaged: sentences about results in folders and globs that can't be read
    """

    runs: tuple[ReportRun, ...]
    words: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()


def gather_runs(words: Sequence[str]) -> Gathered:
    """Collect the runs, each once, oldest first. BadInput if there are none."""
    runs: dict[str, ReportRun] = {}
    damaged: list[str] = []
    default = () if words or not FOLDER.is_dir() else (str(FOLDER),)
    paths = find_files(words or default)
    for path, itself in paths.items():
        if not claims_result(path) and (not itself or path.name == SUITE_RESULTS):
            continue
        try:
            run = report_run(read_result(path), path)
        except BadInput as error:
            if itself:
                raise
            damaged.append(error.message)
        else:
            runs[run.entry.id] = run
    failed = unmeasured(paths)
    if not runs:
        raise BadInput(_nothing(words, [*damaged, *(each.diagnosis for each in failed)]))
    ordered = tuple(runs[key] for key in sorted(runs))
    return Gathered(ordered, tuple(words), tuple(damaged), failed)


def _nothing(words: Sequence[str], damaged: Sequence[str]) -> str:
    where = ", ".join(words) or f"{FOLDER} (the default)"
    why = f"; {damaged[0]}" if damaged else ""
    return (
        f"no results of spark-bench run in {where}: measure with spark-bench run, or name "
        f"result files, folders or quoted globs{why}"
    )


class Unmeasured(Struct, frozen=True):
    """status: as `spark-bench all` has it ("STARTUP_FAILED"); diagnosis: why"""

    model: str
    variant: str
    status: str
    diagnosis: str

    @property
    def skipped(self) -> bool:
        """Whether it was skipped on purpose."""
        return self.status == "SKIPPED"


def unmeasured(paths: Iterable[Path]) -> tuple[Unmeasured, ...]:
    """The rows without a result in the results.json files among these, each once."""
    rows = (each for path in paths if path.name == SUITE_RESULTS for each in _rows(path))
    return tuple(dict.fromkeys(rows))


def _rows(path: Path) -> Iterator[Unmeasured]:
    try:
        read = msgspec.json.decode(path.read_bytes(), type=SuiteResults)
    except (OSError, *NOT_JSON):
        return
    for row in read.results:
        if row.status != "OK" and row.file is None:
            yield Unmeasured(row.model, row.variant, row.status, row.diagnosis)

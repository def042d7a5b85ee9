"""Which results the arguments of a report name, and what `spark-bench all` says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.report.quality_section import QualityRun, quality_run
from spark_bench.report.report_run import ReportRun, report_run
from spark_bench.results import codec, files, suite_results


class Gathered(Struct, frozen=True):
    """The runs that the arguments name.

    words: the arguments
    scores: results of `spark-bench quality`
    marked, warned: by the result's file, why answers can't be used, and what the deploy's probes
        doubt, as `spark-bench all` has found
    unmeasured: rows of `spark-bench all` without a result
    damaged: sentences about results in folders and globs that can't be read
    """

    runs: tuple[ReportRun, ...]
    words: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()
    scores: tuple[QualityRun, ...] = ()
    marked: dict[str, str] = {}
    warned: dict[str, str] = {}


def gather_runs(words: Sequence[str]) -> Gathered:
    """Collect the runs, each once, oldest first. BadInput if there are none."""
    default = () if words or not files.FOLDER.is_dir() else (str(files.FOLDER),)
    paths = files.find_files(words or default)
    runs, scores, damaged = _read_results(paths)
    rows = suite_rows(paths)
    failed = unmeasured(rows)
    if not runs and not scores:
        problems = [*damaged, *(each.diagnosis for each in failed)]
        where = ", ".join(words) or f"{files.FOLDER} (the default)"
        why = f"; {problems[0]}" if problems else ""
        raise BadInput(
            f"no results of spark-bench run in {where}: measure with spark-bench run, or name "
            f"result files, folders or quoted globs{why}"
        )
    ordered = tuple(runs[key] for key in sorted(runs))
    return Gathered(
        ordered,
        tuple(words),
        tuple(damaged),
        failed,
        tuple(scores.values()),
        {
            str((folder / row.file).absolute()): row.diagnosis
            for folder, row in rows
            if row.status == "WRONG_ANSWERS" and row.file
        },
        {
            str((folder / row.file).absolute()): row.warned
            for folder, row in rows
            if row.warned and row.file
        },
    )


def _read_results(
    paths: Mapping[Path, bool],
) -> tuple[dict[str, ReportRun], dict[str, QualityRun], list[str]]:
    """The runs and the scores in these files by id, and sentences about those that can't be read.

    paths: with whether each was named itself, so that it must be a result
    """
    runs: dict[str, ReportRun] = {}
    scores: dict[str, QualityRun] = {}
    damaged: list[str] = []
    for path, itself in paths.items():
        quality = files.claims_quality(path)
        if not (quality or files.claims_result(path)) and (
            not itself or path.name == suite_results.SUITE_RESULTS
        ):
            continue
        try:
            if quality:
                score = quality_run(codec.read_quality(path), path)
                scores[score.entry.id] = score
            else:
                run = report_run(codec.read_result(path), path)
                runs[run.entry.id] = run
        except BadInput as error:
            if itself:
                raise
            damaged.append(error.message)
    return runs, scores, damaged


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


def suite_rows(paths: Iterable[Path]) -> list[tuple[Path, suite_results.CaseRow]]:
    """The rows in the results.json files among these, with their folders."""
    rows: list[tuple[Path, suite_results.CaseRow]] = []
    for path in paths:
        if path.name != suite_results.SUITE_RESULTS:
            continue
        try:
            suite = msgspec.json.decode(path.read_bytes(), type=suite_results.SuiteResults)
        except (OSError, *codec.NOT_JSON):
            continue
        rows += ((path.parent, row) for row in suite.results)
    return rows


def unmeasured(
    rows: Iterable[tuple[Path, suite_results.CaseRow]],
) -> tuple[Unmeasured, ...]:
    """The rows without a result, each once."""
    return tuple(
        dict.fromkeys(
            Unmeasured(row.model, row.variant, row.status, row.diagnosis)
            for _, row in rows
            if row.status != "OK" and row.file is None
        )
    )

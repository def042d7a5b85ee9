"""A suite's folder: its job (job.json), what is done so far, and what a resume may change.

All state is in its files. Only one process at a time writes to it, and no file stays half-written.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

import spark_bench
from spark_bench.errors import BadInput, BenchError
from spark_bench.project import inventory_file
from spark_bench.results import files, provenance, suite_results
from spark_bench.suite import plan, suite_tables, variants

JOB, TABLE, SUMMARY = "job.json", "results.csv", "summary.txt"
# Subfolder for files that a running suite has not finished yet.
UNFINISHED = ".under-way"
_DRAFT = re.compile(r"\..+\.(json|csv|txt)\.\d+")
# The file that every deploy of a project reads besides the inventory.
GROUP_DATA = Path("inventories", "group_data", "all.py")


class JobCase(Struct, frozen=True, kw_only=True):
    """A case as job.json stores it."""

    name: str
    model: str
    settings: variants.Settings = {}
    skip: str = ""


class SuiteJob(Struct, frozen=True, kw_only=True):
    """Everything that determines what is measured: equal jobs measure the same.

    settings_sha256: hash of the inventory and the project's group data
    commit: the project's, with "-dirty" if tracked files differ from it
    """

    client: str
    project: str
    commit: str
    inventory: str
    settings_sha256: str
    load: suite_results.SuiteLoad
    quality: suite_results.SuiteQuality | UnsetType = UNSET
    parts: tuple[JobCase, ...]


class ServedBefore(Struct, frozen=True, kw_only=True):
    """What was served before the first deploy. data: settings of a deploy that brings it back"""

    model: str
    data: variants.Settings
    specs: tuple[str, ...]


class JobFile(Struct, frozen=True, kw_only=True):
    """job.json. typed: the options, so that a resume need not repeat them"""

    kind: str = "spark-bench all job"
    version: int = 1
    created: str
    typed: dict[str, Any]
    job: SuiteJob
    before: ServedBefore | None = None


def describe_job(options: plan.SuiteOptions, cases: list[plan.Case]) -> SuiteJob:
    """The job of these options and the cases planned from them."""
    checkout = provenance.read_commit(options.project)
    inventory = inventory_file(options.project, options.inventory)
    profile = options.profile
    digest = hashlib.sha256()
    for file in (inventory, options.project / GROUP_DATA):
        if file.is_file():
            digest.update(file.read_bytes() + b"\0")
    return SuiteJob(
        client=spark_bench.__version__,
        project=str(options.project.resolve()),
        commit=(checkout.sha + ("-dirty" if checkout.dirty else "")) if checkout else "",
        inventory=str(inventory),
        settings_sha256=digest.hexdigest(),
        load=suite_results.SuiteLoad(
            profile=profile.name,
            num_prompts=profile.num_prompts,
            input_len=profile.input_len,
            output_len=profile.output_len,
            request_rate=profile.request_rate,
            concurrency=profile.concurrency,
            repeat=options.repeat,
        ),
        quality=options.quality or UNSET,
        parts=tuple(
            # Not stored: by the time of a resume, there may be a token.
            JobCase(
                name=case.name,
                model=case.model,
                settings=case.settings,
                skip="" if case.skip == plan.NO_TOKEN else case.skip,
            )
            for case in cases
        ),
    )


def read_job(folder: Path) -> JobFile:
    """Read a folder's job. Raises BadInput if it has none."""
    try:
        data = (folder / JOB).read_bytes()
        return msgspec.json.decode(data, type=JobFile)
    except OSError as error:
        raise BadInput(
            f"--resume {folder}: {JOB} can't be read ({error.strerror}): give a folder that "
            "spark-bench all has written"
        ) from None
    except msgspec.DecodeError as error:
        raise BadInput(
            f"--resume {folder}: {JOB} is not a job of spark-bench all ({error})"
        ) from None


def refuse_changed(old: SuiteJob, new: SuiteJob, folder: Path) -> None:
    """Raise BadInput that lists the changes, if the two jobs differ."""
    changes = list(job_changes(old, new))
    if changes:
        raise BadInput(
            f"--resume {folder}: the job has changed, and its results would not fit together:\n  "
            + "\n  ".join(changes)
            + "\nundo that, or start again without --resume"
        )


def job_changes(old: SuiteJob, new: SuiteJob) -> Iterator[str]:
    """Yield a line for each difference."""
    before, after = (msgspec.to_builtins(each) for each in (old, new))
    parts = [{p["name"]: p for p in each.pop("parts")} for each in (before, after)]
    for name, was, now in _changed_values(_flatten(before), _flatten(after)):
        yield f"{name}: {_shorten(was)} -> {_shorten(now)}"
    for name, was, now in _changed_values(*parts):
        if was is None or now is None:
            yield f"{name}: {'is new' if was is None else 'is gone'}"
        else:
            yield from (
                f"{name}: {key}: {_shorten(one)} -> {_shorten(other)}"
                for key, one, other in _changed_values(_flatten(was), _flatten(now))
            )


def _flatten(nested: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        inner = _flatten(value, f"{above}{name}.") if isinstance(value, dict) else None
        flat |= {f"{above}{name}": value} if inner is None else inner
    return flat


def _changed_values(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def _shorten(value: Any) -> str:
    if value is None or value == "":
        return "(none)"
    text = str(value)
    return f"{text[:12]}…{text[-6:]}" if len(text) >= 40 and text.isalnum() else text


# ---- the folder


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Create the folder if it is missing, and lock it for this process during the block.

    Removes what a killed process left half-written. Raises BadInput if another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise BenchError(f"{folder} can't be used: {error.strerror}: give another one") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"another spark-bench all is writing to {folder}") from None
        _remove_unfinished(folder)
        yield
        _remove_unfinished(folder)
    finally:
        os.close(descriptor)


def _remove_unfinished(folder: Path) -> None:
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for file in folder.iterdir():
        if _DRAFT.fullmatch(file.name):
            file.unlink(missing_ok=True)


def write_job(folder: Path, job: JobFile) -> None:
    """Write job.json."""
    _replace(folder / JOB, msgspec.json.format(msgspec.json.encode(job)) + b"\n")


def write_results(results: suite_results.SuiteResults, folder: Path) -> None:
    """Write results.json, results.csv and summary.txt, each in one step.

    Raises NotSaved if a file can't be written.
    """
    _replace(folder / suite_results.SUITE_RESULTS, suite_results.encode_results(results))
    _replace(folder / TABLE, suite_tables.rows_csv(results.results).encode())
    _replace(folder / SUMMARY, suite_tables.render_summary(results).encode())


def _replace(path: Path, data: bytes) -> None:
    with files.replacing(path) as file:
        file.write(data)


def read_results(folder: Path) -> suite_results.SuiteResults | None:
    """Read the results in a suite's folder; None if there are none."""
    try:
        data = (folder / suite_results.SUITE_RESULTS).read_bytes()
        return msgspec.json.decode(data, type=suite_results.SuiteResults)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{folder / suite_results.SUITE_RESULTS} can't be read: {error}") from None


def earlier_results(parent: Path) -> Iterator[suite_results.SuiteResults]:
    """Yield the results of the suites in `parent`, oldest first."""
    for file in sorted(parent.glob(f"*/{suite_results.SUITE_RESULTS}")):
        with suppress(BadInput):
            if results := read_results(file.parent):
                yield results


def finished_rows(
    folder: Path, rows: Sequence[suite_results.CaseRow]
) -> dict[str, suite_results.CaseRow]:
    """The rows that need not be measured again, by name: those with a complete result file and, if
    there are to be any, scores."""
    from spark_bench.results.codec import read_quality, read_result

    def is_complete(row: suite_results.CaseRow) -> bool:
        try:
            if row.file is None or read_result(folder / row.file).status != "complete":
                return False
            scores = (read_quality(folder / score.file) for score in row.by_task.values())
            return all(score.status == "complete" for score in scores)
        except BadInput:
            return False

    done = (row for row in rows if row.status in suite_results.MEASURED)
    return {row.name: row for row in done if is_complete(row)}


def finished_names(options: plan.SuiteOptions, cases: list[plan.Case]) -> set[str]:
    """Names of the cases that a resume does not measure again.

    Raises BadInput if the folder has another job, or any suite when none is to be resumed.
    """
    if not options.resume:
        if (options.folder / JOB).exists():
            raise BadInput(
                f"{options.folder} already holds a run: continue it with --resume "
                f"{options.folder}, or name another folder with --output-dir"
            )
        return set()
    refuse_changed(read_job(options.resume).job, describe_job(options, cases), options.resume)
    results = read_results(options.resume)
    return set(finished_rows(options.resume, results.results)) if results else set()

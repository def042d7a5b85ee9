"""Files, folders and globs to runs; each result is read once, and what the page needs is kept."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.report.run import Run, run_of
from spark_bench.report.unmeasured import Unmeasured, unmeasured
from spark_bench.results.codec import read
from spark_bench.results.files import FOLDER
from spark_bench.results.found import claims, named
from spark_bench.results.suite_results import SUITE_RESULTS


class Gathered(Struct, frozen=True):
    """What the words named.

    words: as they were typed
    unmeasured: rows of `spark-bench all` that came to no result
    damaged: sentences about files in folders and globs that should be results and can't be read
    """

    runs: tuple[Run, ...]
    words: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()


def gather(words: Sequence[str]) -> Gathered:
    """The runs, each once, the oldest first. BadInput for a word that names none."""
    runs: dict[str, Run] = {}
    damaged: list[str] = []
    default = () if words or not FOLDER.is_dir() else (str(FOLDER),)
    paths = named(words or default)
    for path, itself in paths.items():
        if not claims(path) and (not itself or path.name == SUITE_RESULTS):
            continue
        try:
            run = run_of(read(path), path)
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
    where = ", ".join(words) or f"{FOLDER}, the default,"
    why = f"; {damaged[0]}" if damaged else ""
    return (
        f"{where} has no result of spark-bench run in it: measure with spark-bench run, or name "
        f"result files, folders or quoted globs{why}"
    )

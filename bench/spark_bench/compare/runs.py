"""Runs to compare, from files, folders and globs."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.compare.metric_names import collect_figures
from spark_bench.errors import BadInput
from spark_bench.expectations import judge_result
from spark_bench.results import codec, files, schema


class ResultPart(Struct, frozen=True):
    """What a comparison needs of one result file.

    config, provenance: flattened, by dotted path ("conversations.turns")
    repeats: every figure of each repeat, by name
    early: successful responses that ended before the requested length
    published: sentences on the published figures whose load it sent
    """

    path: Path
    id: str
    status: str
    verdict: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    repeats: tuple[dict[str, float], ...]
    completed: int
    failed: int
    early: int
    published: tuple[str, ...] = ()


class ComparedRun(Struct, frozen=True):
    """A column of the matrix: one result, or several whose repeats are pooled.

    letter: its name in tables; "A" is the baseline
    name: as typed
    left_out: files of a folder or glob that are not results
    """

    letter: str
    name: str
    parts: tuple[ResultPart, ...]
    left_out: int = 0

    @property
    def repeats(self) -> int:
        """The number of repeats in all its files."""
        return sum(len(part.repeats) for part in self.parts)

    def values(self, name: str) -> list[float]:
        """A figure of each repeat that has it."""
        figures = (each.get(name) for part in self.parts for each in part.repeats)
        return [value for value in figures if value is not None]


def load_runs(arguments: Sequence[str]) -> list[ComparedRun]:
    """One run per argument; for a single argument, one per file, oldest first.

    BadInput names the file or argument that can't be used.
    """
    groups = [(argument, *_parts(argument)) for argument in arguments]
    if len(groups) == 1:
        argument, parts, left_out = groups[0]
        if len(parts) == 1:
            raise BadInput(
                f"{argument} is a single run; give another to compare it with: "
                f"spark-bench compare {argument} OTHER.json"
            )
        groups = [(str(part.path), (part,), 0) for part in parts]
        groups[0] = (*groups[0][:2], left_out)
    return [
        ComparedRun(letters(index), name, parts, left_out)
        for index, (name, parts, left_out) in enumerate(groups)
    ]


def letters(index: int) -> str:
    """A to Z, AA, AB and so on, as spreadsheets name columns.

    >>> letters(0), letters(25), letters(26)
    ('A', 'Z', 'AA')
    """
    before, last = divmod(index, 26)
    return (letters(before - 1) if before else "") + chr(ord("A") + last)


def flatten(value: Any, place: str = "") -> dict[str, Any]:
    """Nested mappings and lists of mappings as one mapping by dotted path; empty ones vanish.

    >>> flatten({"ranks": [{"node": "a"}], "tp": 2, "env": {}})
    {'ranks[0].node': 'a', 'tp': 2}
    """
    if isinstance(value, dict):
        items = [(f"{place}.{key}" if place else str(key), each) for key, each in value.items()]
    elif isinstance(value, (list, tuple)) and (not value or isinstance(value[0], dict)):
        items = [(f"{place}[{index}]", each) for index, each in enumerate(value)]
    else:
        return {place: value}
    return {key: leaf for at, each in items for key, leaf in flatten(each, at).items()}


def result_part(path: Path, result: schema.Result) -> ResultPart:
    """What a comparison needs of a result."""
    repeats = result.repeats or (result,)
    provenance = flatten(msgspec.to_builtins(result.provenance))
    provenance |= {
        "client.clock": result.audit.clock,
        "client.transport": result.audit.transport,
        "client.tokenizer": result.lengths.tokenizer,
    }
    return ResultPart(
        path=path,
        id=result.id,
        status=result.status,
        verdict=result.audit.verdict,
        config=flatten(msgspec.to_builtins(result.config)),
        provenance=provenance,
        repeats=tuple(collect_figures(repeat) for repeat in repeats),
        completed=result.summary.completed,
        failed=result.summary.failed,
        early=result.summary.stopped_early,
        published=tuple(each.text for each in judge_result(result)[1:])
        if result.config.published
        else (),
    )


def _parts(argument: str) -> tuple[tuple[ResultPart, ...], int]:
    """An argument's results, oldest first, each once, and how many other files it matches."""
    path = Path(argument)
    if path.is_file():
        return (result_part(path, codec.read_result(path)),), 0
    if path.is_dir():
        paths = _files(path.glob("*.json"))
    else:
        paths = _files(Path(name) for name in glob.glob(argument, recursive=True))
        if not paths:
            what = "matches no files" if glob.has_magic(argument) else "does not exist"
            raise BadInput(f"{argument} {what}: give a result file, a folder, or a quoted glob")
    results = [each for each in paths if files.claims_result(each)]
    if not results:
        raise BadInput(
            f"no results of spark-bench run in {argument}: give a result file, a folder "
            "of results, or a quoted glob such as 'benchmark_results/bench_quick_*.json'"
        )
    parts = {
        one.id: one for one in (result_part(each, codec.read_result(each)) for each in results)
    }
    return tuple(parts[key] for key in sorted(parts)), len(paths) - len(results)


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))

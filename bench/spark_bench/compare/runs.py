"""Runs to compare, from files, folders and globs."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from spark_bench.compare.metric_names import collect_figures
from spark_bench.compare.scores import ScorePart, score_part
from spark_bench.errors import BadInput
from spark_bench.expectations import judge_result
from spark_bench.metrics.bounds import Bound
from spark_bench.results import codec, files, schema

# The share of idle slots that bounds reckon with at most: a file may say 1.
MOST_IDLE = 0.99

Part = TypeVar("Part", "ResultPart", ScorePart)


class ResultPart(Struct, frozen=True):
    """What a comparison needs of one result file.

    config, provenance: flattened, by dotted path ("conversations.turns")
    repeats: every figure of each repeat, by name
    bounds: of those figures of each repeat, by name; none in results of earlier versions
    bounded: these show all that is uncertain about the figures
    requests: the file with its requests; None: not saved
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
    bounds: tuple[dict[str, Bound], ...] = ()
    bounded: bool = False
    requests: Path | None = None

    @property
    def exact(self) -> bool:
        """Whether its figures can be judged: they are exact, or their bounds are known."""
        return self.verdict == "exact" or self.bounded


class ComparedRun(Struct, frozen=True):
    """A column of the matrix: one result, or several whose repeats are pooled.

    letter: its name in tables; "A" is the baseline
    name: as typed
    left_out: files of a folder or glob that are not results
    scores: its quality results, oldest first
    """

    letter: str
    name: str
    parts: tuple[ResultPart, ...]
    left_out: int = 0
    scores: tuple[ScorePart, ...] = ()

    @property
    def files(self) -> tuple[ResultPart | ScorePart, ...]:
        """Its results of both kinds."""
        return (*self.parts, *self.scores)

    @property
    def by_task(self) -> dict[str, list[ScorePart]]:
        """Its quality results by task."""
        tasks: dict[str, list[ScorePart]] = {}
        for part in self.scores:
            tasks.setdefault(part.task, []).append(part)
        return tasks

    @property
    def repeats(self) -> int:
        """The number of repeats in all its files."""
        return sum(len(part.repeats) for part in self.parts)

    def values(self, name: str) -> list[float]:
        """A figure of each repeat that has it."""
        figures = (each.get(name) for part in self.parts for each in part.repeats)
        return [value for value in figures if value is not None]

    def ends(self, name: str) -> tuple[list[float], list[float]]:
        """The lowest and the highest value that a figure of each repeat can have; the value itself
        where that is unknown."""
        pairs = [
            (value, bounds.get(name, Bound(value, value)))
            for part in self.parts
            for each, bounds in zip(
                part.repeats, part.bounds or [{}] * len(part.repeats), strict=True
            )
            if (value := each.get(name)) is not None
        ]
        lows = [min(value, bound.low) for value, bound in pairs]
        return lows, [max(value, bound.high) for value, bound in pairs]


def load_runs(arguments: Sequence[str]) -> list[ComparedRun]:
    """One run per argument; for a single argument, one per file, oldest first.

    BadInput names the file or argument that can't be used.
    """
    groups = [(argument, *_parts(argument)) for argument in arguments]
    if len(groups) == 1:
        argument, parts, scores, left_out = groups[0]
        if len(parts or scores) == 1:
            raise BadInput(
                f"{argument} is a single run; give another to compare it with: "
                f"spark-bench compare {argument} OTHER.json"
            )
        # Scores beside results of runs can't be told apart: which of them belongs to which run?
        left_out += len(scores) if parts else 0
        groups = [(str(part.path), (part,), (), 0) for part in parts]
        groups = groups or [(str(part.path), (), (part,), 0) for part in scores]
        groups[0] = (*groups[0][:3], left_out)
    return [
        ComparedRun(letters(index), name, parts, left_out, scores)
        for index, (name, parts, scores, left_out) in enumerate(groups)
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
        bounds=tuple(_bounds_with_idle_slots(repeat) for repeat in repeats),
        bounded=result.audit.bounded is True,
        # In the result's own folder, whatever the file says.
        requests=path.parent / Path(name).name if (name := result.requests_file) else None,
        published=tuple(each.text for each in judge_result(result)[1:])
        if result.config.published
        else (),
    )


def _bounds_with_idle_slots(repeat: schema.Measurement) -> dict[str, Bound]:
    """Figures' bounds, a closed loop's throughput with all slots busy included.

    While slots stood idle, the server had less to do than requested, by the client's doing: with
    all slots busy its throughput may have been higher by as much.
    """
    bounds = dict(repeat.bounds or {})
    if idle := repeat.audit.idle_slots or 0.0:
        for name, bound in bounds.items():
            if name.endswith("throughput") or name == "request_goodput":
                bounds[name] = Bound(bound.low, bound.high / (1 - min(idle, MOST_IDLE)))
    return bounds


def _parts(argument: str) -> tuple[tuple[ResultPart, ...], tuple[ScorePart, ...], int]:
    """An argument's results of both kinds, oldest first, each once, and how many other files it
    matches."""
    path = Path(argument)
    if path.is_file():
        if files.claims_quality(path):
            return (), (score_part(path, codec.read_quality(path)),), 0
        return (result_part(path, codec.read_result(path)),), (), 0
    if path.is_dir():
        paths = _files(path.glob("*.json"))
    else:
        paths = _files(Path(name) for name in glob.glob(argument, recursive=True))
        if not paths:
            what = "matches no files" if glob.has_magic(argument) else "does not exist"
            raise BadInput(f"{argument} {what}: give a result file, a folder, or a quoted glob")
    results = [result_part(p, codec.read_result(p)) for p in paths if files.claims_result(p)]
    scores = [score_part(p, codec.read_quality(p)) for p in paths if files.claims_quality(p)]
    if not results and not scores:
        raise BadInput(
            f"no results of spark-bench run or quality in {argument}: give a result file, a folder "
            "of results, or a quoted glob such as 'benchmark_results/bench_quick_*.json'"
        )
    left_out = len(paths) - len(results) - len(scores)
    return _by_id(results), _by_id(scores), left_out


def _by_id(parts: Iterable[Part]) -> tuple[Part, ...]:
    by_id = {part.id: part for part in parts}
    return tuple(by_id[id] for id in sorted(by_id))


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))

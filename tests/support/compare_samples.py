"""Runs of given figures, and pairs of runs with the spread measured on the reference server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from result_samples import a_repeat, a_result
from spark_bench.compare.runs import ComparedRun, ResultPart
from spark_bench.metrics.bounds import Bound
from spark_bench.results.assemble import combine_repeats
from spark_bench.results.codec import encode_result
from spark_bench.results.schema import Repeat, Result

MEASURED = json.loads(Path(__file__).with_name("compare_spread.json").read_text())
Floats = NDArray[np.float64]


def a_run(letter: str, **figures: Sequence[float]) -> ComparedRun:
    """One that has these figures, a value a repeat, and nothing else."""
    columns = zip(*figures.values(), strict=True)
    repeats = tuple(dict(zip(figures, column, strict=True)) for column in columns)
    part = ResultPart(Path(f"{letter}.json"), letter, "complete", "exact", {}, {}, repeats, 9, 0, 0)
    return ComparedRun(letter, f"{letter}.json", (part,))


def with_bounds(run: ComparedRun, less: float, more: float) -> ComparedRun:
    """The run with figures that may be lower and higher by these shares, and an approximate
    verdict."""
    parts = tuple(
        msgspec.structs.replace(
            part,
            verdict="approximate",
            bounded=True,
            bounds=tuple(
                {
                    name: Bound(value * (1 - less), value * (1 + more))
                    for name, value in repeat.items()
                }
                for repeat in part.repeats
            ),
        )
        for part in run.parts
    )
    return msgspec.structs.replace(run, parts=parts)


def a_file(folder: Path, name: str, *throughputs: float, **changes: Any) -> Path:
    """A result's file: a repeat for each output throughput; the TTFTs are 1e5 / throughput.

    changes: fields of the result, or of its config
    """
    repeats = tuple(_repeat(number, value) for number, value in enumerate(throughputs))
    result = msgspec.structs.replace(
        a_result(),
        id=name,
        status="complete",
        reason="",
        repeats=repeats if len(repeats) > 1 else (),
        **{key: getattr(combine_repeats(repeats), key) for key in ("summary", "audit", "lengths")},
    )
    path = folder / f"{name}.json"
    path.write_bytes(encode_result(_changed(result, changes)))
    return path


def _changed(result: Result, changes: Mapping[str, Any]) -> Result:
    for key, value in changes.items():
        if key in result.config.__struct_fields__:
            result = msgspec.structs.replace(
                result, config=msgspec.structs.replace(result.config, **{key: value})
            )
        else:
            result = msgspec.structs.replace(result, **{key: value})
    return result


def _repeat(number: int, throughput: float) -> Repeat:
    repeat = a_repeat(number)
    ttft = 1e5 / throughput
    summary = msgspec.structs.replace(
        repeat.summary,
        output_throughput=throughput,
        mean_ttft_ms=ttft,
        median_ttft_ms=ttft,
        p99_ttft_ms=ttft,
        failed=0,
        failures={},
        stopped_early=0,
    )
    return msgspec.structs.replace(repeat, summary=summary)


def pairs(
    count: int, repeats: int, exact: bool, worse: Mapping[str, float], seed: int = 1
) -> Iterator[tuple[ComparedRun, ComparedRun]]:
    """Pairs of runs against the reference server; the second's figures are multiplied by `worse`.

    Each run is the start of a measured one and residuals drawn from all measured ones, without
    replacement. exact: only of runs whose client called itself exact; else of all of them, those
    that other programs disturbed included.
    """
    rng = np.random.default_rng(seed)
    chosen = np.array(MEASURED["exact"]) | (not exact)
    logs = {
        name: np.log(np.array(MEASURED["values"][name])[chosen]) for name in worse
    }  # (runs, repeats)
    for _ in range(count):
        which = rng.choice(int(chosen.sum()), 2, replace=False)
        drawn = rng.choice(next(iter(logs.values())).size, (2, repeats), replace=False)
        first = {name: _made(values, which[0], drawn[0]) for name, values in logs.items()}
        second = {
            name: _made(values, which[1], drawn[1]) * worse[name] for name, values in logs.items()
        }
        yield (
            a_run("A", **{name: figures.tolist() for name, figures in first.items()}),
            a_run("B", **{name: figures.tolist() for name, figures in second.items()}),
        )


def _made(logs: Floats, which: int, drawn: NDArray[np.int64]) -> Floats:
    """The means of runs differ by more than their repeats' spread explains: that much is kept."""
    n = logs.shape[1]
    means = logs.mean(axis=1)
    residuals = (logs - means[:, np.newaxis]).ravel() * np.sqrt(n / (n - 1))
    between = max(0.0, means.var(ddof=1) - residuals.var() / n)
    start = means.mean() + (means[which] - means.mean()) * np.sqrt(between / means.var(ddof=1))
    values: Floats = np.exp(start + residuals[drawn])
    return values

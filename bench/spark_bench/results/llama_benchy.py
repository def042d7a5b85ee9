"""Results at depths as llama-benchy 0.4.0 writes its own (`--format json`), for its readers.

The form is that of its `BenchmarkReport` (llama_benchy/results.py). What differs in meaning is in
`metrics.depth`; so `latency_mode` is "none", and `version` names spark-bench.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from spark_bench import __version__
from spark_bench.errors import BadInput
from spark_bench.metrics.depth import Batch, DepthFigures, SpeedRow, speed_of, speed_rows
from spark_bench.results.schema import Result


def result_rows(result: Result) -> list[SpeedRow]:
    """The rows of a result at a depth; none of others."""
    config, figures = result.config, result.depth
    if not isinstance(figures, DepthFigures) or not config.input_len or not config.output_len:
        return []
    return speed_rows(figures, config.input_len, config.output_len, config.concurrency or 1)


def export_rows(results: Sequence[Result]) -> bytes:
    """The report of these results, as the bytes of its file.

    Raises BadInput if there are none at depths, if they are of several models, or some of a cached
    depth and some not: a report of llama-benchy has one of each.
    """
    measured = [
        (result, result.depth) for result in results if isinstance(result.depth, DepthFigures)
    ]
    if not measured:
        raise BadInput(
            "--llama-benchy: none of these results is at a depth: measure with spark-bench run "
            "--depth 0,4096"
        )
    models = dict.fromkeys(result.config.model for result, _ in measured)
    if len(models) > 1:
        raise BadInput(
            f"--llama-benchy: a report of llama-benchy is of one model, and these results are of "
            f"{', '.join(models)}: name the files of one"
        )
    if len({figures.cached for _, figures in measured if figures.depth}) > 1:
        raise BadInput(
            "--llama-benchy: some of these results have cached depths and some have not, and a "
            "report of llama-benchy has one kind: name the files of one"
        )
    measured.sort(key=lambda each: (each[1].depth, each[0].config.concurrency or 1, each[0].id))
    last = max(result.created for result, _ in measured)
    document = {
        "version": f"spark-bench {__version__}",
        "timestamp": f"{last:%Y-%m-%d %H:%M:%S}Z",
        "latency_mode": "none",
        "latency_ms": 0.0,
        "model": next(iter(models)),
        "prefix_caching_enabled": any(figures.cached for _, figures in measured),
        "max_concurrency": max(result.config.concurrency or 1 for result, _ in measured),
        "benchmarks": [
            row
            for result, figures in measured
            for context in (True, False)
            if (batches := figures.contexts if context else figures.batches)
            for row in [_run(result, figures.depth, batches, context)]
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _run(result: Result, depth: int, batches: Sequence[Batch], context: bool) -> dict[str, Any]:
    """A `BenchmarkRun`: throughput of batches, and where they have one request each, of those."""
    config = result.config
    alone = (config.concurrency or 1) == 1

    def metric(name: str) -> dict[str, Any] | None:
        speed = speed_of(batches, name)
        if not speed:
            return None
        return {"mean": speed.mean, "std": speed.std, "values": list(speed.values)}

    return {
        "concurrency": config.concurrency or 1,
        "context_size": depth,
        "prompt_size": config.input_len,
        "response_size": config.output_len,
        "is_context_prefill_phase": context,
        "pp_throughput": metric("pp_each" if alone else "pp"),
        "pp_req_throughput": metric("pp_each"),
        "tg_throughput": metric("tg_each" if alone else "tg"),
        "tg_req_throughput": metric("tg_each"),
        "peak_throughput": metric("peak"),
        "peak_req_throughput": metric("peak_each"),
        "ttfr": metric("ttfr_ms"),
        "est_ppt": metric("ttft_ms"),
        "e2e_ttft": metric("ttft_ms"),
        "throughput_over_time": None,
        "requests_throughput_over_time": None,
    }

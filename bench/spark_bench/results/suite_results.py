"""results.json of `spark-bench all`: one row per case, and the document around the rows."""

from typing import Literal

import msgspec
from msgspec import Struct

# The file in a suite's folder.
SUITE_RESULTS = "results.json"

Status = Literal["OK", "CONFIG_FAILED", "STARTUP_FAILED", "BENCH_FAILED", "NO_OUTPUT", "SKIPPED"]


class CaseRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The outcome of a case. Every field is a column of results.csv and a key in results.json.

    The first ten have the names that the scripts replaced by `spark-bench all` used: means, in ms
    and tokens per second. There are figures only if status is OK; over several repeats, medians.

    name: unique; the case's files have it in their names
    variant: the variant's settings as text
    diagnosis: why the case is not OK
    low, high: 95% interval of output_throughput, over repeats or within the run
    pareto: no other variant of the model (without variants: no other model) is as good in both
        output_throughput and ttft_ms and better in one of them
    client: verdict on the client's own accuracy
    started: when the case began, in seconds since the Epoch
    startup_seconds, bench_seconds: durations of the deploy and of the run
    """

    model: str
    model_short: str
    nodes: int | None
    tp: int | None
    output_throughput: float | None = None
    total_throughput: float | None = None
    ttft_ms: float | None = None
    itl_ms: float | None = None
    e2e_ms: float | None = None
    status: Status
    name: str
    variant: str = ""
    diagnosis: str = ""
    pp: int | None = None
    low: float | None = None
    high: float | None = None
    median_ttft_ms: float | None = None
    p99_ttft_ms: float | None = None
    median_itl_ms: float | None = None
    p99_itl_ms: float | None = None
    tpot_ms: float | None = None
    p99_e2e_ms: float | None = None
    request_throughput: float | None = None
    completed: int | None = None
    failed: int | None = None
    repeats: int | None = None
    duration: float | None = None
    pareto: bool | None = None
    client: str | None = None
    image: str | None = None
    engine_version: str | None = None
    revision: str | None = None
    spec: str | None = None
    started: float | None = None
    startup_seconds: float | None = None
    bench_seconds: float | None = None
    file: str | None = None
    log: str | None = None


COLUMNS = CaseRow.__struct_fields__


class SuiteLoad(Struct, frozen=True, kw_only=True):
    """The load on each model. The first four keys are those of the scripts that this replaces."""

    profile: str
    num_prompts: int
    input_len: int
    output_len: int
    request_rate: float | None = None
    concurrency: int | None = None
    repeat: int = 1

    def __str__(self) -> str:
        rate = f", {self.request_rate:g} a second" if self.request_rate else ""
        slots = f", {self.concurrency} in flight" if self.concurrency else ""
        often = f", {self.repeat} times" if self.repeat > 1 else ""
        return (
            f"{self.profile}: {self.num_prompts} prompts of {self.input_len} tokens, "
            f"{self.output_len} tokens each{rate}{slots}{often}"
        )


class SuiteResults(Struct, frozen=True, kw_only=True):
    """results.json. The first five keys are those of the scripts that this replaces.

    timestamp: when the suite began (ISO 8601 with time zone)
    total_time_seconds: duration, including the time before a resume
    models_tested: number of rows that are not SKIPPED
    finished: nothing is left to do
    restored: what became of the previously served model, in words
    """

    timestamp: str
    config: SuiteLoad
    total_time_seconds: float
    models_tested: int
    results: tuple[CaseRow, ...]
    kind: str = "spark-bench all"
    schema_version: int = 1
    finished: bool = False
    restored: str = ""


def encode_results(results: SuiteResults) -> bytes:
    """Encode as the bytes of results.json: indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(results)) + b"\n"

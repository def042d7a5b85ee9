"""results.json of `spark-bench all`: one row per case, and the document around the rows."""

from typing import Literal, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

# The file in a suite's folder.
SUITE_RESULTS = "results.json"

Measured = Literal["OK", "WRONG_ANSWERS"]
Status = (
    Measured | Literal["CONFIG_FAILED", "STARTUP_FAILED", "BENCH_FAILED", "NO_OUTPUT", "SKIPPED"]
)
MEASURED = get_args(Measured)  # statuses with figures


class SuiteScore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case's score of a task: how many answers are right, their share, and its 95% interval.

    file: the quality result's name
    """

    right: int
    answered: int
    score: float
    low: float
    high: float
    file: str


class CaseRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The outcome of a case. Every field is a column of results.csv and a key in results.json.

    The first ten have the names that the scripts replaced by `spark-bench all` used: means, in ms
    and tokens per second. There are figures only if the case was measured, which is OK or, if its
    answers can't be used, WRONG_ANSWERS; over several repeats, medians.

    name: unique; the case's files have it in their names
    variant: the variant's settings as text
    diagnosis: why the case is not OK
    low, high: 95% interval of output_throughput, over repeats or within the run
    pareto: no other variant of the model (without variants: no other model) is as good in both
        output_throughput and ttft_ms and better in one of them
    client: verdict on the client's own accuracy
    started: when the case began, in seconds since the Epoch
    startup_seconds, bench_seconds: durations of the deploy and of the run
    served_variant: the model's, by its name in the catalog, the default too; "": it has none;
        unset in files of before there were variants
    scores: by task, in the order of --quality; in results.csv, three columns each. Left out where
        none were asked for
    quality_seconds: how long they took; in results.csv, only if there are any
    warned: what the deploy's probes doubt, without having failed it; left out: nothing. In
        results.csv, a column if any row has it
    slots, queue_ms: how many requests the server ran at once, and the mean wait of all of them for
        it, by the streams; null: no limit was found, it can't be told
    prompts_p99_share: share of ITL p99 that reading prompts causes; of several repeats, the median
    bounds: the lowest and the highest value that the figures can have, by name; in results.csv, two
        columns each at the end, NAME_least and NAME_most, if any row has them
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
    served_variant: str | UnsetType = UNSET
    scores: dict[str, SuiteScore] | UnsetType = UNSET
    quality_seconds: float | UnsetType = UNSET
    warned: str | UnsetType = UNSET
    slots: int | UnsetType | None = UNSET
    queue_ms: float | UnsetType | None = UNSET
    prompts_p99_share: float | UnsetType | None = UNSET
    bounds: dict[str, tuple[float, float]] | UnsetType = UNSET

    @property
    def by_task(self) -> dict[str, SuiteScore]:
        """Its scores; empty: it has none."""
        return self.scores or {}


# Of results.csv, before those of the scores.
COLUMNS = CaseRow.__struct_fields__[: CaseRow.__struct_fields__.index("scores")]


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


class SuiteQuality(Struct, frozen=True, kw_only=True):
    """The scores of each model.

    tasks: of `spark-bench quality`
    limit: most items of a task; None: all
    thinking: what is requested of the chat template
    loss: points that a variant may lose against its model's best, before it is WRONG_ANSWERS
    """

    tasks: tuple[str, ...]
    limit: int | None = None
    thinking: str = "default"
    loss: float = 5.0

    def __str__(self) -> str:
        most = f", the first {self.limit} items" if self.limit else ""
        thinking = f", thinking {self.thinking}" if self.thinking != "default" else ""
        return f"quality: {', '.join(self.tasks)}{most}{thinking}"


class SuiteResults(Struct, frozen=True, kw_only=True):
    """results.json. The first five keys are those of the scripts that this replaces.

    timestamp: when the suite began (ISO 8601 with time zone)
    total_time_seconds: duration, including the time before a resume
    models_tested: number of rows that are not SKIPPED
    quality: the scores of each model; left out: none were asked for
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
    quality: SuiteQuality | UnsetType = UNSET
    finished: bool = False
    restored: str = ""


def encode_results(results: SuiteResults) -> bytes:
    """Encode as the bytes of results.json: indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(results)) + b"\n"

"""A run's checked options and its outcome: the types that the commands and the run exchange."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spark_bench import INVENTORY, PROJECT, errors, secret

if TYPE_CHECKING:
    from spark_bench.load.arrivals import Ramp
    from spark_bench.load.profile import Profile
    from spark_bench.load.sweep import Sweep
    from spark_bench.metrics.goodput import Slo
    from spark_bench.results.config_schema import Published
    from spark_bench.results.quality_schema import QualityResult
    from spark_bench.results.schema import Result


class FailureLimit(Struct, frozen=True):
    """How many requests may fail: at most `count`, or, if it is set, at most `percent` of all."""

    count: int = 0
    percent: float | None = None

    def __str__(self) -> str:
        return f"{self.count}" if self.percent is None else f"{self.percent:g}%"

    def check(self, failed: int, total: int) -> None:
        """Raise TooManyFailures if more of the `total` requests failed than the limit allows."""
        allowed = self.count if self.percent is None else self.percent / 100 * total
        if failed > allowed:
            raise errors.TooManyFailures(
                f"{failed} of {total} requests failed, and --max-failures {self} allows no more "
                "than that: see the failures above, or allow more"
                if self.count or self.percent
                else f"{failed} of {total} requests failed: see the failures above, or allow some "
                f"with --max-failures {failed}"
            )


def parse_failure_limit(text: str) -> FailureLimit:
    """Parse `5` (requests) or `2.5%` (of all requests); BadInput for anything else."""
    try:
        if text.endswith("%"):
            percent = float(text[:-1])
            if 0 <= percent <= 100:
                return FailureLimit(percent=percent)
        elif (count := int(text)) >= 0:
            return FailureLimit(count)
    except ValueError:
        pass
    raise errors.BadInput(
        f"--max-failures {text}: give a number of requests, 0 or more, or a share of them, "
        "such as 1%"
    )


class LoadOptions(Struct, frozen=True, kw_only=True):
    """When to send, and how much. Times are seconds.

    profile: with the overrides applied
    overrides: the profile's fields that were given explicitly
    burstiness: shape of the gamma distribution of the gaps between requests: 1.0 is Poisson, inf
        evenly spaced
    ramp: a rate that changes over the run; replaces the profile's
    ramp_slots: time over which the limit on requests in flight rises to the profile's concurrency
    duration: time after which nothing more is sent; None: no limit
    timeout: for one request, from its send to the end of the response
    warmup: uncounted requests before each repeat; None: only before the first, as many as it takes
        until the server is steady
    sweep: a run at each of these loads, which replace the profile's
    published: the published figures whose load the profile is; None: it is a load of its own
    depths: a run at each: tokens of context before every prompt
    depth: the one of this run; None: it has none
    depth_cached: the contexts are sent before, so that a prefix cache has them
    """

    profile: Profile
    overrides: dict[str, Any] = {}
    burstiness: float = 1.0
    ramp: Ramp | None = None
    ramp_slots: float = 0.0
    duration: float | None = None
    timeout: float = 600.0
    warmup: int | None = None
    repeat: int = 1
    seed: int = 0
    sweep: Sweep | None = None
    trace: Path | None = None
    trace_speed: float = 1.0
    published: Published | None = None
    depths: tuple[int, ...] = ()
    depth: int | None = None
    depth_cached: bool = False


class PromptOptions(Struct, frozen=True, kw_only=True):
    """What to send. think_time: seconds between an answer and the next turn's question."""

    sharegpt: Path | None = None
    turns: int = 1
    think_time: float = 0.0
    shared_prefix: int = 0
    prefix_groups: int = 1
    cache: str = "miss"
    tokenizer: Path | None = None


class ServerOptions(Struct, frozen=True, kw_only=True):
    """Which server to measure, and what its requests contain.

    url: without /v1; "": the project's head, else localhost
    model: "": the one that the server lists
    power: whether to read the nodes' power, which takes the project's listing; None: if there is
        a project
    """

    url: str = ""
    project: Path = PROJECT
    inventory: Path = INVENTORY
    model: str = ""
    endpoint: str = "chat"
    api_key: secret.Secret | None = None
    ignore_eos: bool = True
    temperature: float = 0.0
    extra_body: dict[str, Any] = {}
    power: bool | None = None


class MeasureOptions(Struct, frozen=True, kw_only=True):
    """What else to measure.

    slo: latency limits for goodput
    count_tokens: "auto", "usage" or "off"; see `run --count-tokens`
    metrics: whether to read the server's /metrics; None: if it has them
    """

    slo: Slo | None = None
    count_tokens: str = "auto"
    metrics: bool | None = None


class PublishedOptions(Struct, frozen=True, kw_only=True):
    """Which published loads to send.

    streams: those at these numbers of requests in flight; empty: all whose load is stated
    weights, variant, nodes: what serves: the model's id, its variant, and the number of Sparks; ""
        and None: as the project or the server says
    only_plan: print what would be sent, and send nothing
    """

    streams: tuple[int, ...] = ()
    weights: str = ""
    variant: str = ""
    nodes: int | None = None
    only_plan: bool = False


class OutputOptions(Struct, frozen=True, kw_only=True):
    """Where the result goes, and what is printed."""

    max_failures: FailureLimit = FailureLimit()
    output: Path | None = None
    save_requests: bool = False
    history: bool = True
    as_json: bool = False
    quiet: bool = False


class RunOptions(Struct, frozen=True, kw_only=True):
    """All options of a run: each is valid, and so is their combination."""

    load: LoadOptions
    prompts: PromptOptions = PromptOptions()
    server: ServerOptions = ServerOptions()
    measure: MeasureOptions = MeasureOptions()
    output: OutputOptions = OutputOptions()
    published: PublishedOptions | None = None


class RunOutcome(Struct, frozen=True):
    """How a run ended.

    results: one, or one per point of a sweep or published load
    written: their files; if there are fewer than results, `notes` say why
    failed, total: requests over all repeats and points, without the warm-up
    interrupted: Ctrl-C ended it early
    misplaced: a file could not be written where it belongs, and was saved or printed elsewhere
    notes: what else the user should know, one line each
    plan: what would have been sent, one line each, if that was all that was asked for
    """

    results: tuple[Result, ...]
    written: tuple[Path, ...]
    failed: int
    total: int
    interrupted: bool = False
    misplaced: bool = False
    notes: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()


class QualityOptions(Struct, frozen=True, kw_only=True):
    """All options of `spark-bench quality`. Times are seconds.

    tasks: what to ask, in this order
    items: the file of the task "items"
    data: the file of problems for SGLang's harness, or one on the hub; "": its own, if it has any
    data_sha256: of that file, in hex; "": any
    harness: the Python of the environment that has it
    limit: ask only the first so many items of each task
    lengths: of `needle`, tokens of its texts; empty: as the context allows
    thinking: "default", "on" or "off": what to request of the chat template
    max_tokens: most tokens of an answer; None: as each task has it
    answers: keep the answers in the result
    resume: the file that goes on, with what is in it
    against: the file whose items these are, with the answers to set these beside
    """

    tasks: tuple[str, ...]
    server: ServerOptions = ServerOptions()
    items: Path | None = None
    data: str = ""
    data_sha256: str = ""
    harness: Path = Path()
    limit: int | None = None
    seed: int = 0
    lengths: tuple[int, ...] = ()
    thinking: str = "default"
    max_tokens: int | None = None
    timeout: float = 600.0
    concurrency: int = 8
    answers: bool = True
    resume: tuple[Path, QualityResult] | None = None
    against: tuple[Path, QualityResult] | None = None
    output: OutputOptions = OutputOptions()


class QualityOutcome(Struct, frozen=True):
    """How `spark-bench quality` ended.

    results: one for each task that was begun
    incomplete: an item, or a whole task, has no answers
    Everything else is as in RunOutcome.
    """

    results: tuple[QualityResult, ...]
    written: tuple[Path, ...]
    interrupted: bool = False
    misplaced: bool = False
    incomplete: bool = False
    notes: tuple[str, ...] = ()

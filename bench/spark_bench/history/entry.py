"""What the history stores of a result, and results read from files."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import UNSET, Struct
from msgspec.structs import asdict

from spark_bench.compare.metric_names import collect_figures
from spark_bench.errors import BadInput
from spark_bench.results import codec, files, quality_schema, schema
from spark_bench.results.config_schema import RunConfig
from spark_bench.results.provenance_schema import Provenance


class EntryFigure(Struct, frozen=True):
    """A figure's value, and its confidence interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One result, of `run` or of `quality`.

    created: when the run ended: UTC, ISO 8601 to the microsecond, so that it sorts as text
    path: its file's absolute path
    verdict: of the client's audit, "exact" or "approximate"; of `quality`, "quality"
    profile: of `quality`, the task
    num_prompts, completed, failed: of `quality`, items
    load: what was sent, in short (see `load_text`); runs of the same load can be compared
    nodes: how many served it; None: unknown
    figures: by the summary's key; also "steady.…" and "tokens_per_joule"
    """

    id: str
    created: str
    path: str
    status: str
    verdict: str
    model: str
    profile: str
    load: str
    url: str
    endpoint: str
    engine: str
    engine_version: str
    nodes: int | None
    num_prompts: int
    input_len: int | None
    output_len: int | None
    max_concurrency: int | None
    request_rate: float | None
    repeats: int
    completed: int
    failed: int
    figures: dict[str, EntryFigure] = {}

    @property
    def when(self) -> datetime:
        return datetime.fromisoformat(self.created)

    def plain(self) -> dict[str, str | int | float | None]:
        """Its columns and its figures' values, by name."""
        columns = asdict(self)
        del columns["figures"]
        return {name: figure.value for name, figure in self.figures.items()} | columns


# The columns of the table `results`.
COLUMNS = tuple(name for name in HistoryEntry.__struct_fields__ if name != "figures")


def entry_of(result: schema.Result | quality_schema.QualityResult, path: Path) -> HistoryEntry:
    """The entry for the result in the file at `path`."""
    if isinstance(result, quality_schema.QualityResult):
        return quality_entry(result, path)
    config, server = result.config, result.provenance.server
    figures = {}
    for name, value in collect_figures(result).items():
        within = result.intervals.get(name)
        figures[name] = EntryFigure(value, *((within.low, within.high) if within else ()))
    return HistoryEntry(
        id=result.id,
        created=timestamp(result.created),
        path=str(path.absolute()),
        status=result.status,
        verdict=result.audit.verdict,
        model=config.model,
        profile=config.profile,
        load=load_text(config),
        url=config.url,
        endpoint=config.endpoint,
        engine=server.engine or "",
        engine_version=server.version or "",
        nodes=count_nodes(result.provenance),
        num_prompts=config.num_prompts,
        input_len=config.input_len,
        output_len=config.output_len,
        max_concurrency=config.concurrency,
        request_rate=config.request_rate,
        repeats=max(1, len(result.repeats)),
        completed=result.summary.completed,
        failed=result.summary.failed,
        figures=figures,
    )


def quality_entry(result: quality_schema.QualityResult, path: Path) -> HistoryEntry:
    """The entry for the result of `quality` in the file at `path`."""
    config, server, score = result.config, result.provenance.server, result.score
    figures = {
        name: EntryFigure(value)
        for name in ("stopped_by_length", "empty", "unreadable")
        if (value := getattr(score, name)) is not None
    }
    if score.score is not None:
        figures["score"] = EntryFigure(score.score, score.low, score.high)
    return HistoryEntry(
        id=result.id,
        created=timestamp(result.created),
        path=str(path.absolute()),
        status=result.status,
        verdict="quality",
        model=config.model,
        profile=config.task,
        load=protocol_text(config),
        url=config.url,
        endpoint=config.protocol.endpoint,
        engine=server.engine or "",
        engine_version=server.version or "",
        nodes=count_nodes(result.provenance),
        num_prompts=config.items.count,
        input_len=None,
        output_len=config.protocol.max_tokens,
        max_concurrency=config.concurrency,
        request_rate=None,
        repeats=1,
        completed=score.answered,
        failed=score.failed,
        figures=figures,
    )


def protocol_text(config: quality_schema.QualityConfig) -> str:
    """Everything that a score depends on, except the model: "300x 1a2b3c4d chat t0 2048".

    The items' number and hash, the endpoint, the temperature, and the most tokens of an answer.
    """
    items, protocol = config.items, config.protocol
    words = [f"{items.count}x {items.sha256[:8]} {protocol.endpoint}"]
    if protocol.thinking != "default":
        words.append(f"thinking-{protocol.thinking}")
    if protocol.temperature is not None:
        words.append(f"t{protocol.temperature:g}")
    return " ".join([*words, str(protocol.max_tokens)])


def timestamp(when: datetime) -> str:
    """A time in UTC, always of the same length.

    >>> timestamp(datetime(2026, 11, 23, 13, 38, 5, tzinfo=UTC))
    '2026-11-23T13:38:05.000000Z'
    """
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def server_key(provenance: Provenance, url: str, model: str) -> str:
    """What served, as text: equal for measurements of the same launch."""
    if provenance.deployment and provenance.deployment.ranks:
        launch = sorted(provenance.deployment.launch.items())
        return " ".join([model, *(rank.spec for rank in provenance.deployment.ranks), f"{launch}"])
    server = provenance.server
    return f"{url} {model} {server.engine} {server.version} {sorted(server.settings.items())}"


def count_nodes(provenance: Provenance) -> int | None:
    """How many nodes served, by the deployment or the engine's settings; None: unknown."""
    if deployment := provenance.deployment:
        return len(deployment.ranks)
    nnodes = provenance.server.settings.get("nnodes")
    return nnodes if isinstance(nnodes, int) and not isinstance(nnodes, bool) else None


def load_text(config: RunConfig) -> str:
    """Everything in a load that figures depend on, except the model: "10x 128/256 c4".

    c: maximum in flight; r: requests per second; d: seconds; defaults are left out
    """
    lengths = ("*" if n is None else str(n) for n in (config.input_len, config.output_len))
    words = [f"{config.num_prompts}x {'/'.join(lengths)}"]
    if config.concurrency:
        words.append(f"c{config.concurrency}")
    if ramp := config.rate_ramp:
        words.append(f"r{ramp.start:g}:{ramp.end:g}:{ramp.shape}")
    elif config.request_rate is not None:
        words.append(f"r{config.request_rate:g}")
    if config.burstiness != 1.0:
        words.append("even" if config.burstiness is None else f"gamma{config.burstiness:g}")
    if config.duration is not None:
        words.append(f"d{config.duration:g}")
    if dataset := config.dataset:
        words.append(f"{dataset.format}:{dataset.sha256[:4]}")
    if config.conversations.turns > 1:
        words.append(f"{config.conversations.turns}turns")
    if config.conversations.shared_prefix:
        words.append(f"prefix{config.conversations.shared_prefix}")
    if long := config.long:
        words.append(f"long{long.every}:{long.input_len}/{long.output_len}")
    if config.depth is not UNSET:
        words.append(f"depth{config.depth}{'-cached' if config.depth_cached else ''}")
    if config.cache == "hit":
        words.append("cached")
    if config.endpoint != "chat":
        words.append(config.endpoint)
    return " ".join(words)


class CollectedResults(Struct, frozen=True):
    """Results read from files.

    refused: sentences about files that were named or claim to be results but are not valid
    others: how many other JSON files the folders contain
    """

    entries: tuple[HistoryEntry, ...]
    refused: tuple[str, ...] = ()
    others: int = 0


def collect_results(words: Sequence[str]) -> CollectedResults:
    """Read the results in files, folders (recursively) and globs; BadInput for no match."""
    entries: dict[str, HistoryEntry] = {}
    refused: list[str] = []
    others = 0
    for path, itself in files.find_files(words).items():
        scored = files.claims_quality(path)
        if not itself and not scored and not files.claims_result(path):
            others += 1
            continue
        try:
            entry = entry_of((codec.read_quality if scored else codec.read_result)(path), path)
            entries[entry.id] = entry
        except BadInput as error:
            refused.append(error.message)
    return CollectedResults(tuple(entries.values()), tuple(refused), others)

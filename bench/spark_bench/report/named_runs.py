"""The runs of a page: which results the arguments name, what the page needs of each, and what they
are called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.display.result_lines import lengths_line
from spark_bench.errors import BadInput
from spark_bench.expectations import Expectation, judge_result
from spark_bench.history.entry import HistoryEntry, entry_of, server_key
from spark_bench.load.sweep import MeasuredPoint, power_between
from spark_bench.metrics.accepted import Accepted
from spark_bench.metrics.bounds import Bound
from spark_bench.metrics.depth import SpeedRow
from spark_bench.metrics.mixed import MixedFigures
from spark_bench.metrics.queues import Queue
from spark_bench.metrics.stalls import Prefills
from spark_bench.metrics.summary import Distributions
from spark_bench.report.quality_section import (
    QualityRun,
    newest_scores,
    quality_run,
    server_settings,
    wrong_servers,
)
from spark_bench.results import codec, config_schema, files, schema, suite_results
from spark_bench.results.llama_benchy import result_rows


class Gathered(Struct, frozen=True):
    """The runs that the arguments name.

    words: the arguments
    scores: results of `spark-bench quality`
    marked, warned: by the result's file, why answers can't be used, and what the deploy's probes
        doubt, as `spark-bench all` has found
    unmeasured: rows of `spark-bench all` without a result
    damaged: sentences about results in folders and globs that can't be read
    """

    runs: tuple[ReportRun, ...]
    words: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()
    scores: tuple[QualityRun, ...] = ()
    marked: dict[str, str] = {}
    warned: dict[str, str] = {}


def gather_runs(words: Sequence[str]) -> Gathered:
    """Collect the runs, each once, oldest first. BadInput if there are none."""
    default = () if words or not files.FOLDER.is_dir() else (str(files.FOLDER),)
    paths = files.find_files(words or default)
    runs, scores, damaged = _read_results(paths)
    rows = suite_rows(paths)
    failed = unmeasured(rows)
    if not runs and not scores:
        problems = [*damaged, *(each.diagnosis for each in failed)]
        where = ", ".join(words) or f"{files.FOLDER} (the default)"
        why = f"; {problems[0]}" if problems else ""
        raise BadInput(
            f"no results of spark-bench run in {where}: measure with spark-bench run, or name "
            f"result files, folders or quoted globs{why}"
        )
    ordered = tuple(runs[key] for key in sorted(runs))
    return Gathered(
        ordered,
        tuple(words),
        tuple(damaged),
        failed,
        tuple(scores.values()),
        {
            str((folder / row.file).absolute()): row.diagnosis
            for folder, row in rows
            if row.status == "WRONG_ANSWERS" and row.file
        },
        {
            str((folder / row.file).absolute()): row.warned
            for folder, row in rows
            if row.warned and row.file
        },
    )


def _read_results(
    paths: Mapping[Path, bool],
) -> tuple[dict[str, ReportRun], dict[str, QualityRun], list[str]]:
    """The runs and the scores in these files by id, and sentences about those that can't be read.

    paths: with whether each was named itself, so that it must be a result
    """
    runs: dict[str, ReportRun] = {}
    scores: dict[str, QualityRun] = {}
    damaged: list[str] = []
    for path, itself in paths.items():
        quality = files.claims_quality(path)
        if not (quality or files.claims_result(path)) and (
            not itself or path.name == suite_results.SUITE_RESULTS
        ):
            continue
        try:
            if quality:
                score = quality_run(codec.read_quality(path), path)
                scores[score.entry.id] = score
            else:
                run = report_run(codec.read_result(path), path)
                runs[run.entry.id] = run
        except BadInput as error:
            if itself:
                raise
            damaged.append(error.message)
    return runs, scores, damaged


class Unmeasured(Struct, frozen=True):
    """status: as `spark-bench all` has it ("STARTUP_FAILED"); diagnosis: why"""

    model: str
    variant: str
    status: str
    diagnosis: str

    @property
    def skipped(self) -> bool:
        """Whether it was skipped on purpose."""
        return self.status == "SKIPPED"


def suite_rows(paths: Iterable[Path]) -> list[tuple[Path, suite_results.CaseRow]]:
    """The rows in the results.json files among these, with their folders."""
    rows: list[tuple[Path, suite_results.CaseRow]] = []
    for path in paths:
        if path.name != suite_results.SUITE_RESULTS:
            continue
        try:
            suite = msgspec.json.decode(path.read_bytes(), type=suite_results.SuiteResults)
        except (OSError, *codec.NOT_JSON):
            continue
        rows += ((path.parent, row) for row in suite.results)
    return rows


def unmeasured(
    rows: Iterable[tuple[Path, suite_results.CaseRow]],
) -> tuple[Unmeasured, ...]:
    """The rows without a result, each once."""
    return tuple(
        dict.fromkeys(
            Unmeasured(row.model, row.variant, row.status, row.diagnosis)
            for _, row in rows
            if row.status != "OK" and row.file is None
        )
    )


class ReportRun(Struct, frozen=True, kw_only=True):
    """One result.

    entry: its history entry: names, load, figures with their intervals
    reason: why it is partial; reasons: why its figures are approximate
    kernel: whether receive times are the kernel's; lag_us: from them to the client's read, at p99
    late_us: from when requests could be sent to when they were, at p99
    checked, differing: prompts whose length the server reported; those of another length
    failures: failed requests by kind
    lengths: how well prompt lengths match, as a sentence; "" if all do
    distributions: of the run, or of its last repeat
    settings: what its server was started with, flattened
    server: what served, as text (see `server_key`)
    origin: what it was measured with, as (subject, text)
    timed: whether the file has samples over time
    beside: its figures beside the published ones whose load it sent
    accepted: tokens of each step with speculative decoding; None: there is none
    rows: prefill and decode speed at a depth; empty: it had none
    mixed: short and long prompts apart; None: all were alike
    queue, server_queue_ms, prefills: what its streams show, of several repeats the one with the
        median wait, and the mean time in the queue by the server's own metrics; None: unknown
    itl_bound: the lowest and the highest p99 ITL of that repeat; None: unknown
    power: the lowest and the highest power that it can have (see `load.sweep.power`); None: unknown
    bounds: the lowest and the highest value that its figures can have, by key; empty: unknown
    """

    entry: HistoryEntry
    config: config_schema.Config
    reason: str
    reasons: tuple[str, ...]
    kernel: bool
    lag_us: float
    late_us: float
    checked: int
    differing: int
    failures: dict[str, int]
    lengths: str
    notes: tuple[str, ...]
    distributions: Distributions | None
    settings: dict[str, Any]
    server: str
    origin: tuple[tuple[str, str], ...]
    timed: bool
    beside: tuple[Expectation, ...] = ()
    accepted: Accepted | None = None
    rows: tuple[SpeedRow, ...] = ()
    mixed: MixedFigures | None = None
    queue: Queue | None = None
    server_queue_ms: float | None = None
    prefills: Prefills | None = None
    itl_bound: Bound | None = None
    power: tuple[float, float] | None = None
    bounds: dict[str, Bound] = {}

    def value(self, name: str) -> float | None:
        """A figure by its key in the summary."""
        figure = self.entry.figures.get(name)
        return figure.value if figure else None

    @property
    def measured(self) -> bool:
        """Whether any request succeeded."""
        return self.entry.completed > 0

    @property
    def sent(self) -> int:
        return self.entry.completed + self.entry.failed

    def at(self, load: float) -> MeasuredPoint:
        """This run as a point of a sweep."""
        return MeasuredPoint(
            value=load,
            output_throughput=self.value("output_throughput") or 0.0,
            request_throughput=self.value("request_throughput") or 0.0,
            ttft_ms=_or_nan(self.value("mean_ttft_ms")),
            e2e_ms=_or_nan(self.value("mean_e2e_latency_ms")),
            goodput=self.value("request_goodput"),
            failed=self.entry.failed / self.sent if self.sent else 0.0,
            between=self.power,
        )


def report_run(result: schema.Result, path: Path) -> ReportRun:
    """What the page needs of the result in the file at `path`."""
    last = result.repeats[-1] if result.repeats else result
    streams = next((each for each in result.repeats if each.queue == result.queue), result)
    compared = streams.server.reconciliation if streams.server else None
    lengths = result.lengths
    off = lengths.differing or lengths.stopped_early
    fine = lengths.tokenizer and lengths.checked and not off
    return ReportRun(
        entry=entry_of(result, path),
        config=result.config,
        reason=result.reason if result.status == "partial" else "",
        reasons=result.audit.reasons if result.audit.verdict != "exact" else (),
        kernel=result.audit.clock == "kernel",
        lag_us=result.audit.lag_us.p99,
        late_us=result.audit.late_us.p99,
        checked=lengths.checked,
        differing=lengths.differing,
        failures=result.summary.failures,
        lengths="" if fine or not result.summary.completed else lengths_line(lengths),
        notes=result.notes,
        distributions=last.distributions,
        settings=server_settings(result.provenance),
        server=server_key(result.provenance, result.config.url, result.config.model),
        origin=tuple(_origin(result)),
        timed=bool(last.server and len(last.server.samples.at) > 1) or bool(last.nodes),
        beside=judge_result(result)[1:] if result.config.published else (),
        accepted=result.accepted or None,
        rows=tuple(result_rows(result)),
        mixed=result.mixed or None,
        queue=result.queue or None,
        server_queue_ms=compared.ttft_queue_ms if compared else None,
        prefills=(streams.stalls.prefills or None) if streams.stalls else None,
        itl_bound=(streams.bounds or {}).get("p99_itl_ms"),
        power=power_between(result.bounds or {}),
        bounds=result.bounds or {},
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _origin(result: schema.Result) -> Iterator[tuple[str, str]]:
    """What a run was measured with, as (subject, text); without what differs between any two runs
    (the load average)."""
    provenance = result.provenance
    server, machine, client = provenance.server, provenance.machine, provenance.client
    yield "engine", " ".join(filter(None, (server.engine, server.version))) or "unknown"
    if server.max_model_len:
        yield "context", f"{server.max_model_len:,} tokens"
    if server.settings:
        yield "settings", ", ".join(f"{key}={value}" for key, value in server.settings.items())
    if deployment := provenance.deployment:
        yield "weights", f"{deployment.model} {deployment.revision[:12]}".strip()
        for rank in deployment.ranks:
            yield (
                f"rank {rank.rank}",
                f"{rank.node}: {rank.image}, {rank.image_id[:19]}, launch {rank.spec[:12]}",
            )
    yield "server", result.config.url
    words = (machine.hostname, machine.product, machine.cpu, machine.platform, machine.kernel)
    yield "measured from", ", ".join(filter(None, words))
    python = f"Python {client.python}" + (f", httpx {client.httpx}" if client.httpx else "")
    yield "client", f"spark-bench {client.version}, {python}"
    if commit := provenance.project:
        yield "project", commit.sha[:12] + (", with local changes" if commit.dirty else "")


_MOST_SETTINGS = 3


class NamedRun(Struct, frozen=True):
    """A run as the page shows it.

    number: its row in the table of all runs, from 1
    model: its short name
    variant: the settings in which runs of this model differ ("tp_size=2"), or ""
    scores: its server's quality results, by task
    wrong: why its server's answers can't be used; "": nothing says so
    warned: what the probes of its deploy doubt; "": nothing
    """

    number: int
    run: ReportRun
    model: str
    variant: str
    scores: dict[str, QualityRun] = {}
    wrong: str = ""
    warned: str = ""

    @property
    def label(self) -> str:
        """The model and variant, without the load."""
        return f"{self.model} {self.variant}".strip()

    @property
    def anchor(self) -> str:
        return f"run-{self.number}"


def name_runs(gathered: Gathered) -> tuple[tuple[NamedRun, ...], dict[str, tuple[str, str]]]:
    """Number runs by time, the oldest first.

    Returns them, and the model and the variant of each server.
    """
    measured: list[ReportRun | QualityRun] = [*gathered.runs, *gathered.scores]
    shorts = short_names({run.entry.model for run in measured})
    differing = _differing(measured)
    labels = {
        run.server: (shorts[run.entry.model], variant(run, differing[run.entry.model]))
        for run in measured
    }
    newest = newest_scores(gathered.scores)
    wrong = wrong_servers(newest, {s: " ".join(label).strip() for s, label in labels.items()})
    for run in gathered.runs:
        if reason := gathered.marked.get(run.entry.path):
            wrong[run.server] = reason
    return tuple(
        NamedRun(
            *(number, run, shorts[run.entry.model], variant(run, differing[run.entry.model])),
            scores=newest.get(run.server, {}),
            wrong=wrong.get(run.server, ""),
            warned=gathered.warned.get(run.entry.path, ""),
        )
        for number, run in enumerate(gathered.runs, start=1)
    ), labels


def short_model_name(model: str) -> str:
    """A model's name without organization or folder."""
    return model.rstrip("/").rsplit("/", 1)[-1] or model


def short_names(models: Iterable[str]) -> dict[str, str]:
    """Short names where those are unique.

    >>> short_names(["openai/gpt-oss-120b", "a/x", "b/x"])
    {'openai/gpt-oss-120b': 'gpt-oss-120b', 'a/x': 'a/x', 'b/x': 'b/x'}
    """
    by_short: dict[str, list[str]] = defaultdict(list)
    for model in models:
        by_short[short_model_name(model)].append(model)
    return {
        model: short if len(same) == 1 else model
        for short, same in by_short.items()
        for model in same
    }


def variant(run: ReportRun | QualityRun, names: Sequence[str]) -> str:
    """These settings of a run as text."""
    return " ".join(f"{name}={run.settings.get(name, '-')}" for name in names)


def _differing(runs: Sequence[ReportRun | QualityRun]) -> dict[str, list[str]]:
    """By model, the settings in which its runs differ; a few, since names are short."""
    values_of: dict[str, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    counts: dict[str, int] = defaultdict(int)
    present: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for run in runs:
        counts[run.entry.model] += bool(run.settings)
        for key, value in run.settings.items():
            values_of[run.entry.model][key].add(repr(value))
            present[run.entry.model][key] += 1
    return {
        run.entry.model: [
            key
            for key, values in values_of[run.entry.model].items()
            if len(values) > 1 or present[run.entry.model][key] < counts[run.entry.model]
        ][:_MOST_SETTINGS]
        for run in runs
    }

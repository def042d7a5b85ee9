"""Build the result of a finished run and write it; one that can't be written is to be printed."""

import hashlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from spark_bench import history
from spark_bench.options import RunOptions
from spark_bench.results import assemble, codec, files, redact, schema
from spark_bench.results.schema import Config, Result
from spark_bench.run import measure, negotiate, reach

BLOCK = 1024 * 1024


@dataclass(frozen=True)
class SavedResult:
    """A result and where it is.

    path: None: not where it should be, so that it has to be printed
    misplaced: it, or its requests, could not be written there; `notes` say where they are
    """

    result: Result
    path: Path | None
    misplaced: bool = False
    notes: tuple[str, ...] = ()


def save_result(
    options: RunOptions,
    config: Config,
    provenance: schema.Provenance,
    repeats: Sequence[measure.MeasuredRepeat],
    notes: Sequence[str],
    *,
    reason: str = "",
    point: str = "",
) -> SavedResult:
    """Write a run's result, and its requests beside it with --save-requests.

    reason: why it is partial; "": it is complete
    point: tells the files of a sweep's points apart ("_c8")
    """
    path = options.output.output
    if path is None:
        path = files.default_path(f"{options.load.profile.name}{point}", datetime.now())
    elif point:
        path = path.with_stem(path.stem + point)
    problems: list[str] = []
    requests = _save_requests(path, repeats, problems) if options.output.save_requests else None
    result = _build_result(config, provenance, repeats, notes, requests, reason)
    try:
        files.write_result(result, path)
    except files.NotSaved as error:
        spare = Path(tempfile.gettempdir()) / path.name
        copy = files.save_somewhere(error.data, [Path.cwd() / path.name, spare])
        printed = f"It is printed{f', and written to {copy}' if copy else ''} instead."
        return SavedResult(result, None, True, (*problems, error.message, printed))
    notes = tuple(problems)
    if options.output.history:
        try:
            history.remember_result(result, path)
        except click.ClickException as error:
            notes += (f"not in the history: {error.message}",)
    return SavedResult(result, path, bool(problems), notes)


def _save_requests(
    path: Path, repeats: Sequence[measure.MeasuredRepeat], problems: list[str]
) -> Path | None:
    """The file beside the result; None if they had to go elsewhere, as `problems` then says."""

    def rows() -> Iterator[codec.Row]:
        return (codec.to_row(r, m.started_ns, m.repeat.repeat) for m in repeats for r in m.requests)

    file = files.requests_path(path)
    try:
        files.write_requests(rows(), file)
        return file
    except files.NotSaved as error:
        problems.append(error.message)
    with suppress(OSError, files.NotSaved):
        spare = Path(tempfile.mkdtemp(prefix="spark-bench-")) / file.name
        files.write_requests(rows(), spare)
        problems.append(f"The requests were written to {spare} instead.")
    return None


def _build_result(
    config: Config,
    provenance: schema.Provenance,
    repeats: Sequence[measure.MeasuredRepeat],
    notes: Sequence[str],
    requests: Path | None,
    reason: str,
) -> Result:
    now = datetime.now(UTC)
    whole = assemble.combine_repeats([m.repeat for m in repeats])
    parts = {name: getattr(whole, name) for name in schema.Measurement.__struct_fields__}
    return Result(
        **parts | {"requests_file": requests.name if requests else None},
        id=files.new_id(now),
        created=now,
        status="partial" if reason else "complete",
        reason=reason,
        config=config,
        provenance=provenance,
        repeats=tuple(m.repeat for m in repeats) if len(repeats) > 1 else (),
        notes=tuple(notes),
    )


def describe_config(
    options: RunOptions, server: reach.ReachedServer, agreement: negotiate.Agreement, warmup: int
) -> Config:
    """The configuration of a run, as this server accepted it.

    warmup: requests sent before the first repeat
    """
    load, prompts, profile = options.load, options.prompts, options.load.profile
    fixed = load.trace is None
    lengths = fixed and not prompts.sharegpt
    asking, ramp, slo = agreement.asking, load.ramp, options.measure.slo
    return Config(
        profile=profile.name,
        overrides=load.overrides,
        endpoint=agreement.dialect.name,  # type: ignore[arg-type] # one of its three names
        url=redact.without_credentials(server.url),
        model=server.model,
        num_prompts=profile.num_prompts,
        input_len=profile.input_len if lengths else None,
        output_len=profile.output_len if lengths else None,
        request_rate=profile.request_rate if fixed and not ramp else None,
        burstiness=None if load.burstiness == float("inf") else load.burstiness,
        rate_ramp=schema.RateRamp(start=ramp.start, end=ramp.end, shape=ramp.shape)
        if ramp
        else None,
        concurrency=profile.concurrency,
        ramp=load.ramp_slots,
        duration=load.duration,
        seed=load.seed,
        cache="hit" if prompts.cache == "hit" else "miss",
        warmup=warmup,
        repeat=load.repeat,
        timeout=load.timeout,
        ignore_eos=asking.ignore_eos,
        temperature=asking.temperature,
        extra_body=redact.clean_body(asking.extra),
        count_tokens="usage" if asking.continuous_usage else options.measure.count_tokens,
        conversations=schema.Conversations(
            turns=prompts.turns,
            think_time=prompts.think_time,
            shared_prefix=prompts.shared_prefix,
            prefix_groups=prompts.prefix_groups,
        ),
        dataset=_describe_dataset(options),
        slo=slo.limits_ms if slo else {},
        command=redact.clean_command(["spark-bench", *sys.argv[1:]]),
    )


def _describe_dataset(options: RunOptions) -> schema.Dataset | None:
    kind: Literal["trace", "sharegpt"] = "trace" if options.load.trace else "sharegpt"
    path = options.load.trace or options.prompts.sharegpt
    if path is None:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    speed = options.load.trace_speed if options.load.trace else 1.0
    return schema.Dataset(format=kind, file=path.name, sha256=digest.hexdigest(), speed=speed)

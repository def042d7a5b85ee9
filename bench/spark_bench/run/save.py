"""Build the result of a finished run, with notes for its readers, and write it.

A result that can't be written is left for the caller to print.
"""

import hashlib
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

import click
from msgspec import UNSET

from spark_bench import history, record
from spark_bench.client.judge import idle_slots_note
from spark_bench.load import trace
from spark_bench.metrics.depth import DepthFigures
from spark_bench.metrics.figures import Summary
from spark_bench.options import RunOptions
from spark_bench.results import (
    assemble,
    codec,
    config_schema,
    files,
    quality_schema,
    redact,
    schema,
)
from spark_bench.results.provenance_schema import Provenance
from spark_bench.run import measure, negotiate, reach, responses

BLOCK = 1024 * 1024


@dataclass(frozen=True)
class SavedResult:
    """A result and where it is.

    path: its file; None: it is not where it should be, so the caller has to print it
    misplaced: the result or its requests could not be written where they belong; `notes` say where
        they are
    """

    result: schema.Result
    path: Path | None
    misplaced: bool = False
    notes: tuple[str, ...] = ()


def save_result(
    options: RunOptions,
    config: config_schema.RunConfig,
    provenance: Provenance,
    repeats: Sequence[measure.MeasuredRepeat],
    notes: Sequence[str],
    *,
    reason: str = "",
    point: str = "",
) -> SavedResult:
    """Write a run's result, and its requests beside it with --save-requests.

    reason: why the run is partial; "": it is complete
    point: suffix that tells the files of a sweep's points apart, such as "_c8"
    """
    path = options.output.output
    if path is None:
        path = files.default_path(f"{options.load.profile.name}{point}", datetime.now())
    elif point:
        path = path.with_stem(path.stem + point)
    problems: list[str] = []
    requests = _save_requests(path, repeats, problems) if options.output.save_requests else None
    result = _build_result(config, provenance, repeats, notes, requests, reason)
    written, notes = write_or_spare(result, path, history_too=options.output.history)
    misplaced = bool(problems) or written is None
    return SavedResult(result, written, misplaced, (*problems, *notes))


def write_or_spare(
    result: schema.Result | quality_schema.QualityResult, path: Path, *, history_too: bool
) -> tuple[Path | None, tuple[str, ...]]:
    """Write a result to its path, or wherever it can be written, and add it to the history.

    Returns the path, None if it had to go elsewhere, and sentences on what went wrong.
    """
    try:
        files.write_result(result, path)
    except files.NotSaved as error:
        spare = Path(tempfile.gettempdir()) / path.name
        copy = files.save_somewhere(error.data, [Path.cwd() / path.name, spare])
        printed = f"It is printed{f', and written to {copy}' if copy else ''} instead."
        return None, (error.message, printed)
    if history_too:
        try:
            history.remember_result(result, path)
        except click.ClickException as error:
            return path, (f"not in the history: {error.message}",)
    return path, ()


def _save_requests(
    path: Path, repeats: Sequence[measure.MeasuredRepeat], problems: list[str]
) -> Path | None:
    """Write the requests beside the result and return the file.

    Returns None if they had to go elsewhere; `problems` then says where.
    """

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
    config: config_schema.RunConfig,
    provenance: Provenance,
    repeats: Sequence[measure.MeasuredRepeat],
    notes: Sequence[str],
    requests: Path | None,
    reason: str,
) -> schema.Result:
    now = datetime.now(UTC)
    whole = assemble.combine_repeats([m.repeat for m in repeats])
    parts = {name: getattr(whole, name) for name in schema.Measurement.__struct_fields__}
    return schema.Result(
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
) -> config_schema.RunConfig:
    """The configuration of a run, as this server accepted it.

    warmup: number of requests sent before the first repeat
    """
    load, prompts, profile = options.load, options.prompts, options.load.profile
    fixed = load.trace is None
    lengths = fixed and not prompts.sharegpt
    terms, ramp, slo = agreement.terms, load.ramp, options.measure.slo
    return config_schema.RunConfig(
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
        rate_ramp=config_schema.RateRamp(start=ramp.start, end=ramp.end, shape=ramp.shape)
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
        ignore_eos=terms.ignore_eos,
        temperature=terms.temperature,
        extra_body=redact.clean_body(terms.extra),
        count_tokens="usage" if terms.continuous_usage else options.measure.count_tokens,
        dataset=_describe_dataset(options),
        slo=slo.limits_ms if slo else {},
        command=redact.clean_command(["spark-bench", *sys.argv[1:]]),
        published=load.published or UNSET,
        depth=UNSET if load.depth is None else load.depth,
        depth_cached=UNSET if load.depth is None else load.depth_cached,
        **_describe_prompts(options),
    )


def _describe_prompts(options: RunOptions) -> dict[str, Any]:
    """What each conversation is like, and which of them are long."""
    prompts, profile = options.prompts, options.load.profile
    conversations = config_schema.Conversations(
        turns=prompts.turns,
        think_time=prompts.think_time,
        shared_prefix=prompts.shared_prefix,
        prefix_groups=prompts.prefix_groups,
    )
    if not profile.long_every or options.load.trace or prompts.sharegpt:
        return {"conversations": conversations}
    long = config_schema.LongPrompts(
        every=profile.long_every,
        input_len=profile.long_input_len or 0,
        output_len=profile.long_output_len or 0,
    )
    return {"conversations": conversations, "long": long}


def _describe_dataset(options: RunOptions) -> config_schema.Dataset | None:
    kind: Literal["trace", "sharegpt"] = "trace" if options.load.trace else "sharegpt"
    path = options.load.trace or options.prompts.sharegpt
    if path is None:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    speed = options.load.trace_speed if options.load.trace else 1.0
    return config_schema.Dataset(
        format=kind, file=path.name, sha256=digest.hexdigest(), speed=speed
    )


# Share of the prompts' own tokens that may come from the cache without a note. What the template
# puts before them is always cached, and a page of the cache may reach a few tokens further.
CACHED = 0.2
# The first repeat stands out if it is farther outside the range of the others than that range is
# wide, and by more than this share of their median; if there is only one other, the second share.
FIRST_APART, FIRST_APART_OF_TWO = 0.03, 0.1
# The figures that show it: the first in a closed loop, the second at a given rate.
FIRST_BY = {
    "output_throughput": "output tokens a second",
    "mean_e2e_latency_ms": "ms of mean E2E latency",
}
# Kinds of failures whose detail is, or quotes, the server's own text.
QUOTED = re.compile("http_|model_not_found|stream_error|wrong_model|malformed_|too_large")


def result_notes(
    options: RunOptions, agreement: negotiate.Agreement, repeats: Sequence[measure.MeasuredRepeat]
) -> Iterator[str]:
    """Yield sentences to take into account when reading the figures; none if all is well."""
    requests = [r for m in repeats for r in m.requests if r.ok]
    yield from _counting(options.measure.count_tokens, requests, [m.uncounted for m in repeats])
    if hidden := sum(r.hidden_tokens for r in requests):
        # Markers, or reasoning that the server keeps to itself.
        yield (
            f"{hidden} of {sum(r.output_tokens for r in requests)} tokens came before any text "
            "(markers, or reasoning that is not sent): TTFT is that of the first token with text"
        )
    yield from idle_slots_note(
        [m.repeat.audit for m in repeats], [m.repeat.summary for m in repeats]
    )
    if note := responses.blank_events_note(requests):
        yield note
    prompts, template = options.prompts, agreement.overhead.first
    alike = prompts.shared_prefix or prompts.turns > 1 or options.load.depth_cached
    if prompts.cache == "miss" and not alike:
        # The server's own metrics, for engines that don't report cached tokens with each answer.
        sides = [m.repeat.server for m in repeats]
        rates = [(side and side.cache_hit_rate) or 0.0 for side in sides]
        yield from cached_note(requests, template, rates)
    if options.load.trace:
        limit = options.load.profile.num_prompts
        yield from lengthened_note(options.load.trace, limit, template + 1, requests)
    if options.load.depth_cached:
        yield from uncached_depth_note([m.repeat for m in repeats])
    yield from first_apart([m.repeat.summary for m in repeats if not m.interrupted])
    yield from dict.fromkeys(note for m in repeats if (note := own_pause_note(m.repeat)))
    if seconds := options.load.duration:
        # A load ends when its time is up or its prompts run out, whichever comes first.
        whole = [m for m in repeats if not m.interrupted]
        if unsent := sum(m.unsent for m in whole):
            yield f"{unsent} prompts were not sent within --duration {seconds:g}"
        if any(not m.unsent and m.lasted < seconds for m in whole):
            yield (
                f"all prompts were answered before --duration {seconds:g} was over: -n is the most "
                "that are sent; give more of them"
            )
    yield from dict.fromkeys(f"{m.note}; they stayed in memory" for m in repeats if m.note)
    yield from server_messages(r for m in repeats for r in m.requests if r.failure)


# Share of the contexts' tokens that must have been in the cache for a depth to count as cached: the
# cache has them in pages, and the last token may be read anew.
DEPTH_FOUND = 0.9


def uncached_depth_note(repeats: Sequence[schema.Repeat]) -> Iterator[str]:
    """Yield a note if contexts that were sent before are not known to have been in the cache."""
    figures = [each for repeat in repeats if isinstance(each := repeat.depth, DepthFigures)]
    shares = [each.in_cache for each in figures if each.in_cache is not None]
    if any(each.depth for each in figures) and not shares:
        yield (
            "whether the contexts were in the prefix cache is not known: the server reports no "
            "cached tokens (SGLang does with --enable-cache-report)"
        )
    elif shares and min(shares) < DEPTH_FOUND:
        yield (
            f"only {min(shares):.0%} of the contexts' tokens were found in the prefix cache: pp "
            "counts the prompts alone, so it is too low"
        )


def first_apart(repeats: Sequence[Summary]) -> Iterator[str]:
    """Yield a note if the first repeat stands out, as it does on a server that was not warm."""
    for key, words in FIRST_BY.items():
        figures = [value for each in repeats if (value := getattr(each, key))]
        if len(figures) != len(repeats) or len(figures) < 2:
            continue
        first, others = figures[0], figures[1:]
        low, high = min(others), max(others)
        least = (FIRST_APART if len(others) > 1 else FIRST_APART_OF_TWO) * median(others)
        if max(low - first, first - high) > max(least, high - low):
            span = f"{low:,.0f} to {high:,.0f}" if len(others) > 1 else f"{low:,.0f}"
            yield (
                f"the first of {len(repeats)} repeats differs from the others: {first:,.0f} "
                f"{words} against {span} ({first / median(others) - 1:+.0%}); the server may not "
                "have been warm (--warmup N sends more first), or it was serving others"
            )
            return


def lengthened_note(
    file: Path, limit: int, least: int, requests: Sequence[record.Request]
) -> Iterator[str]:
    """Yield a note if a trace has lengths too short for the chat template.

    limit: entries of the trace that were used
    least: tokens of the shortest prompt, which has one token of text
    """
    if all(r.asked_input != least for r in requests):
        return
    entries = trace.read_trace(file, limit=limit)
    if short := sum(not e.messages and (e.input_len or 0) < least for e in entries):
        yield (
            f"{short} of {len(entries)} input lengths of the trace are below {least} tokens, which "
            f"the chat template has with a question of one: {least} were sent"
        )


def own_pause_note(measured: schema.Measurement) -> str:
    """A note if a stall may be the client's own pause; "" if not.

    All that arrives during a pause of the client gets the same time.
    """
    stalls, longest = measured.stalls, measured.audit.lag_us.max / 1000
    if not stalls or not stalls.top or longest < (stalls.threshold_ms or 0.0):
        return ""
    return (
        f"this client read up to {longest:.0f} ms late: a stall no longer than that may be its own"
    )


def server_messages(failed: Iterable[record.Request]) -> Iterator[str]:
    """Yield the server's most frequent message for each kind of failure."""
    messages = defaultdict[str, Counter[str]](Counter)
    for request in failed:
        if request.detail and QUOTED.match(request.failure):
            messages[request.failure][request.detail] += 1
    for kind, counts in messages.items():
        more = len(counts) - 1
        others = f" (and {more} other text{'s' if more > 1 else ''})" if more else ""
        first = counts.most_common(1)[0][0]
        yield f"failed: {'' if kind.startswith('http_') else f'{kind}: '}{first}{others}"


def _counting(
    count_tokens: str, requests: Sequence[record.Request], uncounted: Sequence[str]
) -> Iterator[str]:
    """Yield a note if the tokens of some answers could not be counted one by one, and why."""
    even = sum(r.counted_by == "even" for r in requests)
    stopped = next(filter(None, uncounted), "")
    if even:
        used = count_tokens != "usage"
        tokenizer = "no tokenizer finds as many tokens" if used else "no tokenizer was used"
        why = stopped or f"there are no counts with each event, and {tokenizer}"
        yield (
            f"{even} of {len(requests)} answers had events of several tokens that could not be "
            f"separated: their ITL is spread evenly, so its p99 may be too low ({why})"
        )
    elif stopped:
        yield f"the tokens of some answers were not counted: an event counts as one ({stopped})"


def cached_note(
    requests: Sequence[record.Request], template: int, rates: Sequence[float] = ()
) -> Iterator[str]:
    counted = [r for r in requests if r.cached_tokens is not None]
    rate = max(rates, default=0.0)
    content = cached = 0.0
    for request in counted or requests:
        hits = request.cached_tokens
        hits_or_rate = rate * request.prompt_tokens if hits is None else hits
        content += max(0, request.prompt_tokens - template)
        cached += max(0, hits_or_rate - template)
    if cached > CACHED * content:
        yield (
            f"{cached / content:.0%} of the prompts' contents was found in the server's prefix "
            "cache, though none should be: an earlier run had the same prompts; give another "
            "--seed"
        )

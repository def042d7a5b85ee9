"""The story of a run: reach the server, agree with it, send, read, keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from spark_bench.cli.options import RunOptions
from spark_bench.cli.outcome import Outcome
from spark_bench.display.show import Show
from spark_bench.prompts.tokens import Tokens, find
from spark_bench.result.provenance import gather
from spark_bench.result.types import Result
from spark_bench.run import plan
from spark_bench.run.asking import Agreed, agree
from spark_bench.run.config import config
from spark_bench.run.findings import findings
from spark_bench.run.interrupt import Interrupts, interruptible
from spark_bench.run.keeping import Kept, keep
from spark_bench.run.measure import Measured, measure, prepare
from spark_bench.run.reach import Reached, reached


def execute(options: RunOptions, show: Show) -> Outcome:
    """Carry `spark-bench run` out. What ends it early is a BenchError; what merely fails, a
    result."""
    with (
        reached(options) as server,
        closing(find(_tokenizer(options, server), server.http, server.model)) as tokens,
        interruptible(server.recorder.stop) as interrupts,
    ):
        agreed = agree(options, server, tokens)
        for note in agreed.notes:
            show.say(note)
        kept = list(_points(options, server, agreed, tokens, show, interrupts))
    return Outcome(
        results=tuple(k.result for k in kept),
        written=tuple(k.path for k in kept if k.path),
        failed=sum(k.result.summary.failed for k in kept),
        total=sum(k.result.summary.failed + k.result.summary.completed for k in kept),
        interrupted=interrupts.came,
        notes=tuple(note for k in kept for note in k.notes),
    )


def _tokenizer(options: RunOptions, server: Reached) -> Path | None:
    """The one given, else that of the weights that the project has deployed on this machine."""
    if options.tokenizer or server.listing is None or not server.listing.tokenizer:
        return options.tokenizer
    return Path(server.listing.tokenizer)


def _points(
    options: RunOptions,
    server: Reached,
    agreed: Agreed,
    tokens: Tokens,
    show: Show,
    interrupts: Interrupts,
) -> Iterator[Kept]:
    """A result for the load of the options, or for each load of a sweep."""
    if options.sweep is None:
        yield _measured(options, server, agreed, tokens, show, interrupts)
        return
    from spark_bench.display.sweep import measured

    over, results = options.sweep.over, list[Result]()
    while not interrupts.came:
        load = options.sweep.next_point([measured(result, over) for result in results])
        if load is None:
            return
        kept = _measured(_at(options, over, load), server, agreed, tokens, show, interrupts)
        results.append(kept.result)
        yield kept


def _at(options: RunOptions, over: str, load: float) -> RunOptions:
    """The options of one point of a sweep."""
    changes = {"concurrency": int(load)} if over == "concurrency" else {"request_rate": load}
    return replace(options, profile=options.profile.with_(**changes))


def _measured(
    options: RunOptions,
    server: Reached,
    agreed: Agreed,
    tokens: Tokens,
    show: Show,
    interrupts: Interrupts,
) -> Kept:
    """One load, as often as --repeat says."""
    there = options.project if server.listing else None
    provenance = gather(
        server.http, server.url, model=server.model, project=there, listing=server.listing
    )
    repeats: list[Measured] = []
    while len(repeats) < options.repeat and not interrupts.came:
        number = len(repeats)
        load = plan.load(options, agreed, tokens, number, server.context)
        prepare(options, server, agreed, tokens)
        if interrupts.came and repeats:
            break
        label = _label(options, number)
        repeats.append(measure(options, server, agreed, tokens, load, number, show, label))
    point = _point(options) if options.sweep else ""
    notes = [*server.notes, *agreed.notes, *findings(options, repeats)]
    return keep(options, config(options, server, agreed), provenance, repeats, notes, point=point)


def _label(options: RunOptions, number: int) -> str:
    words = [options.profile.name]
    if options.sweep:
        words.append(_point(options).strip("_"))
    if options.repeat > 1:
        words.append(f"{number + 1} of {options.repeat}")
    return " ".join(words)


def _point(options: RunOptions) -> str:
    """Which point of a sweep these options are, for a file's name."""
    assert options.sweep
    if options.sweep.over == "concurrency":
        return f"_c{options.profile.concurrency}"
    return f"_r{options.profile.request_rate:g}"

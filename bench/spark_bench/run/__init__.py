"""The story of a run: reach the server, agree with it, send, read, keep."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from spark_bench.display.progress import ProgressDisplay
from spark_bench.errors import BenchError
from spark_bench.options import Outcome, RunOptions
from spark_bench.prompts.tokens import find
from spark_bench.results.provenance import gather
from spark_bench.run import plan
from spark_bench.run.asking import agree
from spark_bench.run.config import config
from spark_bench.run.findings import findings
from spark_bench.run.interrupt import interruptible
from spark_bench.run.keeping import Kept, keep
from spark_bench.run.measure import Measured, measure
from spark_bench.run.prepare import prepare
from spark_bench.run.reach import Reached, reached
from spark_bench.run.scene import Scene

CTRL_C = "stopped by Ctrl-C"


def execute(options: RunOptions, show: ProgressDisplay) -> Outcome:
    """Carry `spark-bench run` out. What ends it early is a BenchError; what merely fails, a
    result."""
    with (
        reached(options, show.step) as server,
        closing(find(_tokenizer(options, server), server.http, server.model)) as tokens,
        interruptible(server.recorder.stop) as interrupts,
    ):
        plan.check_context(options, server.context)
        agreed = agree(options, server, tokens)
        for note in (*server.notes, *agreed.notes):
            show.say(note)
        kept, ended_by = _points(options, Scene(server, agreed, tokens, show, interrupts))
    return Outcome(
        results=tuple(k.result for k in kept),
        written=tuple(k.path for k in kept if k.path),
        failed=sum(k.result.summary.failed for k in kept),
        total=sum(k.result.summary.failed + k.result.summary.completed for k in kept),
        interrupted=interrupts.came,
        misplaced=any(k.misplaced for k in kept),
        notes=(*(note for k in kept for note in k.notes), *ended_by),
    )


def _tokenizer(options: RunOptions, server: Reached) -> Path | None:
    """The one given, else that of the weights that the project has deployed on this machine."""
    if options.tokenizer or server.listing is None or not server.listing.tokenizer:
        return options.tokenizer
    return Path(server.listing.tokenizer)


def _points(options: RunOptions, scene: Scene) -> tuple[list[Kept], tuple[str, ...]]:
    """A result for the load of the options, or for each load of a sweep; and what ended a sweep
    before its end, in words."""
    if options.sweep is None:
        return [_measured(options, scene)], ()
    from spark_bench.display.load_tables import sweep_point

    over, kept = options.sweep.over, list[Kept]()
    while not scene.interrupts.came:
        load = options.sweep.next_point([sweep_point(k.result, over) for k in kept])
        if load is None:
            break
        try:
            kept.append(_measured(_at(options, over, load), scene))
        except BenchError as error:
            if not kept:
                raise
            return kept, (f"The sweep ended at {over} {load:g}: {error.message}",)
    return kept, ()


def _at(options: RunOptions, over: str, load: float) -> RunOptions:
    """The options of one point of a sweep."""
    changes = {"concurrency": int(load)} if over == "concurrency" else {"request_rate": load}
    return replace(options, profile=options.profile.with_(**changes))


def _measured(options: RunOptions, scene: Scene) -> Kept:
    """One load, as often as --repeat says."""
    server = scene.server
    there = options.project if server.listing else None
    provenance = gather(
        server.http, server.url, model=server.model, project=there, listing=server.listing
    )
    repeats, notes, reason = _repeats(options, scene)
    return keep(
        options,
        config(options, server, scene.agreed, repeats[0].warmup if repeats else 0),
        provenance,
        repeats,
        [*server.notes, *scene.agreed.notes, *notes, *findings(options, scene.agreed, repeats)],
        reason=reason,
        point=_point(options) if options.sweep else "",
    )


def _repeats(options: RunOptions, scene: Scene) -> tuple[list[Measured], list[str], str]:
    """The repeats, what is to be said of them, and why there are not all of them, or not whole."""
    repeats, notes = list[Measured](), list[str]()
    try:
        while len(repeats) < options.repeat and not scene.interrupts.came:
            measured = _repeat(options, scene, len(repeats), notes)
            if measured is None:
                break
            repeats.append(measured)
    except BenchError as error:
        if not repeats:
            raise
        return repeats, notes, error.message
    return repeats, list(dict.fromkeys(notes)), CTRL_C if scene.interrupts.came else ""


def _repeat(options: RunOptions, scene: Scene, number: int, notes: list[str]) -> Measured | None:
    """None: interrupted before it began."""
    scene.show.step(f"{_label(options, number)}: prompts and warm-up")
    server, agreed = scene.server, scene.agreed
    load = plan.load(options, agreed, scene.tokens, number, server.context, notes.append)
    prepared = prepare(options, scene, load, number)
    notes += prepared.notes
    if scene.interrupts.came:
        return None
    scene.interrupts.worth = True
    measured = measure(options, scene, load, number, _label(options, number))
    measured.warmup = prepared.warmup
    return measured


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

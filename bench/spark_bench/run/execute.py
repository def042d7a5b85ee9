"""A whole run: reach the server, negotiate, send, read, save."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from spark_bench.display.progress import ProgressDisplay
from spark_bench.errors import BenchError
from spark_bench.expectations.setting import EngineSettings
from spark_bench.metrics.depth import depth_figures
from spark_bench.options import LoadOptions, RunOptions, RunOutcome
from spark_bench.prompts.tokens import find_tokens
from spark_bench.results.provenance import gather_provenance
from spark_bench.run import measure, published_loads, run_load, save
from spark_bench.run.context import RunContext, interruptible
from spark_bench.run.negotiate import negotiate
from spark_bench.run.reach import reach

CTRL_C = "stopped by Ctrl-C"


def execute(options: RunOptions, show: ProgressDisplay) -> RunOutcome:
    """Carry out `spark-bench run`.

    Failed requests are part of the result. Raises BenchError if there can be no result.
    """
    with reach(options.server, show.step) as server:
        published = None
        if options.published:
            published = published_loads.choose_published(options.published, server)
            plan = tuple(published_loads.plan_lines(published))
            if options.published.only_plan:
                return RunOutcome((), (), 0, 0, plan=plan)
            for line in plan:
                show.say(line)
        # The given tokenizer, else that of the weights that the project deployed on this machine.
        tokenizer = options.prompts.tokenizer
        if tokenizer is None and server.listing and server.listing.tokenizer:
            tokenizer = Path(server.listing.tokenizer)
        with (
            closing(find_tokens(tokenizer, server.http, server.model)) as tokens,
            interruptible(server.recorder.stop) as interrupts,
        ):
            figures = published.figures if published else ()
            points = [published_loads.at_load(options, one) for one in figures]
            for point in points or [options]:
                run_load.check_context(point.load, point.prompts, server.context)
            agreement = negotiate(options, server, tokens)
            for note in (*server.notes, *agreement.notes):
                show.say(note)
            context = RunContext(server, agreement, tokens, show, interrupts)
            if published:
                saved, end_notes = _run_published(points, published.notes, context)
            else:
                saved, end_notes = _run_points(options, context)
    return RunOutcome(
        results=tuple(each.result for each in saved),
        written=tuple(each.path for each in saved if each.path),
        failed=sum(each.result.summary.failed for each in saved),
        total=sum(each.result.summary.failed + each.result.summary.completed for each in saved),
        interrupted=interrupts.came,
        misplaced=any(each.misplaced for each in saved),
        notes=(*(note for each in saved for note in each.notes), *end_notes),
    )


def _run_published(
    points: Sequence[RunOptions], notes: Sequence[str], context: RunContext
) -> tuple[list[save.SavedResult], tuple[str, ...]]:
    """Measure one published load after the other. Returns the results, and why they ended early.

    notes: of each result, on figures that are not compared
    """
    saved = list[save.SavedResult]()
    for point in points:
        if context.interrupts.came:
            break
        try:
            name = _point_name(point.load) if len(points) > 1 else ""
            saved.append(_run_point(point, context, name, notes))
        except BenchError as error:
            if not saved:
                raise
            assert point.load.published
            ended = f"Ended at the published load {point.load.published.load}: {error.message}"
            return saved, (ended,)
    return saved, ()


def _run_points(
    options: RunOptions, context: RunContext
) -> tuple[list[save.SavedResult], tuple[str, ...]]:
    """Measure the load, or each load of a sweep.

    Returns the results, and sentences on why a sweep ended early.
    """
    if options.load.depths:
        return _run_depths(options, context)
    if options.load.sweep is None:
        return [_run_point(options, context)], ()
    from spark_bench.display.tables import sweep_point

    over, saved = options.load.sweep.over, list[save.SavedResult]()
    while not context.interrupts.came:
        load = options.load.sweep.next_point([sweep_point(each.result, over) for each in saved])
        if load is None:
            break
        changes = {"concurrency": int(load)} if over == "concurrency" else {"request_rate": load}
        profile = options.load.profile.with_(**changes)
        point = replace(options, load=replace(options.load, profile=profile))
        try:
            saved.append(_run_point(point, context, _point_name(point.load)))
        except BenchError as error:
            if not saved:
                raise
            return saved, (f"The sweep ended at {over} {load:g}: {error.message}",)
    return saved, ()


def _run_depths(
    options: RunOptions, context: RunContext
) -> tuple[list[save.SavedResult], tuple[str, ...]]:
    """Measure the load at each depth. Returns the results, and why they ended early."""
    saved = list[save.SavedResult]()
    for depth in options.load.depths:
        if context.interrupts.came:
            break
        point = replace(options, load=replace(options.load, depth=depth))
        try:
            saved.append(_run_point(point, context, _point_name(point.load)))
        except BenchError as error:
            if not saved:
                raise
            return saved, (f"Ended at depth {depth}: {error.message}",)
    return saved, ()


def _run_point(
    options: RunOptions, context: RunContext, point: str = "", more_notes: Sequence[str] = ()
) -> save.SavedResult:
    """Measure one load as many times as --repeat says, and save its result.

    point: what tells it apart in a file's name; "": it is the only load
    more_notes: sentences for its readers, besides those that follow from it
    """
    server, agreement = context.server, context.agreement
    provenance = gather_provenance(
        server.http,
        server.url,
        model=server.model,
        project=options.server.project if server.listing else None,
        listing=server.listing,
    )
    engine = EngineSettings(provenance)
    repeats, notes, reason = list[measure.MeasuredRepeat](), list[str](), ""
    try:
        while len(repeats) < options.load.repeat and not context.interrupts.came:
            measured = _run_repeat(options, context, engine, len(repeats), point, notes)
            if measured is None:
                break
            repeats.append(measured)
        notes = list(dict.fromkeys(notes))
        reason = CTRL_C if context.interrupts.came else ""
    except BenchError as error:  # the repeats before it are worth keeping
        if not repeats:
            raise
        reason = error.message
    notes = [
        *server.notes,
        *agreement.notes,
        *notes,
        *save.result_notes(options, agreement, repeats),
        *more_notes,
    ]
    config = save.describe_config(options, server, agreement, repeats[0].warmup if repeats else 0)
    return save.save_result(options, config, provenance, repeats, notes, reason=reason, point=point)


def _run_repeat(
    options: RunOptions,
    context: RunContext,
    engine: EngineSettings,
    number: int,
    point: str,
    notes: list[str],
) -> measure.MeasuredRepeat | None:
    """Measure one repeat (number: from 0); None if it was interrupted before it began."""
    words = [options.load.profile.name]
    if point:
        words.append(point.strip("_"))
    if options.load.repeat > 1:
        words.append(f"{number + 1} of {options.load.repeat}")
    label = " ".join(words)
    context.show.step(f"{label}: prompts and warm-up")
    load = run_load.build_load(options.load, options.prompts, context, number, notes.append)
    prepared = measure.prepare_server(options, context, load, number)
    notes += prepared.notes
    if context.interrupts.came:
        return None
    context.interrupts.worth = True
    measured = measure.measure_repeat(options, context, load, engine, number, label)
    measured.warmup = prepared.warmup
    if options.load.depth is not None:
        error_ns = max(measured.clock_error_ns, prepared.clock_error_ns)
        depth = depth_figures(
            options.load.depth, measured.requests, prepared.contexts, clock_error_ns=error_ns
        )
        measured.repeat = replace(measured.repeat, depth=depth)
    return measured


def _point_name(load: LoadOptions) -> str:
    """The suffix that tells this point of a sweep, or this published load, apart in a file's name,
    such as "_c8"."""
    if one := load.published:
        return f"_{one.input_len}_{one.output_len}_c{one.streams}"
    if load.depth is not None:
        return f"_d{load.depth}{'_cached' if load.depth_cached else ''}_c{load.profile.concurrency}"
    assert load.sweep
    if load.sweep.over == "concurrency":
        return f"_c{load.profile.concurrency}"
    return f"_r{load.profile.request_rate:g}"

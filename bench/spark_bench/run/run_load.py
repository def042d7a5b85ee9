"""What one repeat sends, and when."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from random import Random

from spark_bench import errors, record
from spark_bench.load import arrivals, trace, warmup
from spark_bench.options import LoadOptions, PromptOptions
from spark_bench.prompts import sharegpt
from spark_bench.prompts.compose import PromptShape, compose, compose_depth, compose_trace
from spark_bench.run.context import RunContext
from spark_bench.run.negotiate import Agreement

# Connections opened in advance for a load that does not say how many it needs.
CONNECTIONS = 64
# Requests due within this many seconds of the start need a connection each.
AT_ONCE = 0.001


def derive_seed(seed: int, *what: object) -> int:
    """A seed for one part of a run, unrelated to the seeds of other parts and runs."""
    return Random("/".join(map(str, (seed, *what)))).getrandbits(48)


def check_context(load: LoadOptions, prompts: PromptOptions, context: int | None) -> None:
    """Raise BadInput for lengths that exceed the model's context. Files have their own lengths.

    context: tokens that the served model accepts; None: unknown
    """
    profile = load.profile
    depth = max(load.depths, default=0)
    long = (profile.long_input_len or 0) + (profile.long_output_len or 0)
    if context is not None and prompts.turns * long > context:
        raise errors.BadInput(
            f"profile {profile.name!r} has long prompts of {profile.long_input_len} tokens with "
            f"{profile.long_output_len} for the answer, and the served model takes {context}: give "
            "a profile of your own with shorter ones (--profiles), or serve it with more "
            "(context_length)"
        )
    total = depth + prompts.turns * (profile.input_len + profile.output_len)
    if context is None or total <= context or load.trace or prompts.sharegpt:
        return
    turns = f" in {prompts.turns} turns" if prompts.turns > 1 else ""
    before = f"--depth {depth}, " if depth else ""
    raise errors.BadInput(
        f"{before}--input-len {profile.input_len} and --output-len {profile.output_len}{turns} are "
        f"{total} tokens together, and the served model takes {context}: give less, or serve it "
        "with more (context_length)"
    )


def build_load(
    options: LoadOptions,
    prompt_options: PromptOptions,
    context: RunContext,
    repeat: int,
    note: Callable[[str], None] = lambda _: None,
) -> record.Load:
    """Build the requests of one repeat, down to their bytes; the same options give the same bytes.

    note: called with sentences about the prompts that a reader of the result should know
    """
    agreement, profile = context.agreement, options.profile
    seed = derive_seed(options.seed, "repeat", repeat)
    contexts: Sequence[record.Prompt] = ()
    if options.depth is not None:
        contexts, prompts = _build_depth(options, options.depth, context, seed)
        timings = arrivals.conversation_timings(prompts)
    elif options.trace:
        entries = trace.read_trace(
            options.trace, speed=options.trace_speed, limit=profile.num_prompts
        )
        prompts = compose_trace(entries, context.tokens, seed, agreement.overhead)
        timings = trace.trace_timings(entries)
    else:
        prompts = _build_prompts(options, prompt_options, context, seed, note)
        # Conversations begin at the given rate, or all at once; their later turns follow.
        starts: Sequence[record.Timing] = ()
        if rate := options.ramp or profile.request_rate:
            starts = arrivals.arrival_timings(
                len({prompt.conversation for prompt in prompts}),
                rate,
                burstiness=options.burstiness,
                seed=derive_seed(seed, "arrivals"),
            )
        pause = prompt_options.think_time
        timings = arrivals.conversation_timings(prompts, starts=starts, pause=pause)
    return record.Load(
        build_jobs(agreement, prompts, timings),
        arrivals.steps(profile.concurrency, options.ramp_slots),
        options.timeout,
        options.duration,
        # In files of prompts and in traces, each request has its own length.
        agreement.dialect.most_bytes(max((p.output_tokens for p in prompts), default=0)),
        build_jobs(agreement, contexts, [record.Timing()] * len(contexts)),
    )


def build_warm_up(
    options: LoadOptions,
    cache: str,
    context: RunContext,
    load: record.Load,
    prompts: Sequence[record.Prompt],
    slots: int,
    turn: int,
) -> record.Load:
    """Build a warm-up: prompts as long as these with content of their own, `slots` in flight.

    cache: "hit": send the load's own request instead, so that it is in the cache
    turn: number of the warm-up; each has different content
    """
    if cache == "hit":
        # All requests of such a load are the same.
        jobs = [replace(load.jobs[0], index=index) for index in range(len(prompts))]
    else:
        profile = options.profile
        lengths = [(p.input_tokens or profile.input_len, p.output_tokens) for p in prompts]
        entries = [trace.TraceEntry(0.0, *pair) for pair in lengths]
        # A cache that is not emptied must not have them from an earlier point of the sweep, either.
        seed = derive_seed(options.seed, "warm-up", turn, profile.concurrency, profile.request_rate)
        texts = compose_trace(entries, context.tokens, seed, context.agreement.overhead)
        jobs = build_jobs(context.agreement, texts, [record.Timing()] * len(texts))
    return record.Load(
        jobs, arrivals.steps(slots), options.timeout, warmup.SECONDS, load.most_bytes
    )


def build_jobs(
    agreement: Agreement, prompts: Sequence[record.Prompt], timings: Sequence[record.Timing]
) -> list[record.Job]:
    """Turn prompts into requests ready to be sent. The jobs' prompts have no messages any more."""
    jobs = []
    for index, (prompt, timing) in enumerate(zip(prompts, timings, strict=True)):
        body = agreement.dialect.body(prompt, agreement.terms)
        jobs.append(
            record.Job(index, agreement.envelope(body), timing, replace(prompt, messages=()))
        )
    return jobs


def count_connections(load: record.Load) -> int:
    """How many connections to open before the clock starts."""
    most = max((step.slots for step in load.steps), default=None)
    if most is not None:
        return min(most, len(load.jobs))
    at_once = sum(1 for job in load.jobs if job.timing.at < AT_ONCE and job.timing.after is None)
    return max(at_once, min(CONNECTIONS, len(load.jobs)))


def _build_depth(
    options: LoadOptions, depth: int, context: RunContext, seed: int
) -> tuple[list[record.Prompt], list[record.Prompt]]:
    """The contexts to send before, if they are to be cached, and the prompts after them."""
    profile, overhead = options.profile, context.agreement.overhead
    # Each depth has its own texts, so that no prefix cache has them from another.
    seed = derive_seed(seed, "depth", depth)
    shape = PromptShape(profile.num_prompts, depth + profile.input_len, profile.output_len)
    if not (options.depth_cached and depth):
        return [], compose(shape, context.tokens, seed, overhead)
    return compose_depth(depth, shape, context.tokens, seed, overhead)


def _build_prompts(
    options: LoadOptions,
    prompts: PromptOptions,
    context: RunContext,
    seed: int,
    note: Callable[[str], None],
) -> list[record.Prompt]:
    profile, overhead = options.profile, context.agreement.overhead
    if prompts.sharegpt:
        length = profile.output_len if "output_len" in options.overrides else None
        return sharegpt.load_sharegpt(
            prompts.sharegpt,
            profile.num_prompts,
            seed,
            context.tokens,
            overhead,
            length,
            context.server.context,
            note,
        )
    shape = PromptShape(
        ceil(profile.num_prompts / prompts.turns),
        profile.input_len,
        profile.output_len,
        "hit" if prompts.cache == "hit" else "miss",
        prompts.shared_prefix,
        prompts.prefix_groups,
        prompts.turns,
        profile.long_every,
        profile.long_input_len or 0,
        profile.long_output_len or 0,
    )
    if prompts.cache == "hit":
        # All repeats have the same prompt, so it is in the cache from the first repeat on.
        seed = derive_seed(options.seed, "repeat", 0)
    elif options.sweep or options.published:
        # Each point has its own prompts, so that no prefix cache has them from an earlier point.
        seed = derive_seed(seed, profile.concurrency, profile.request_rate)
    return compose(shape, context.tokens, seed, overhead)[: profile.num_prompts]

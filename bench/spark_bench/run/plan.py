"""What one repeat sends, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace as replaced
from math import ceil
from random import Random

from spark_bench.errors import BadInput
from spark_bench.load import arrivals, conversations, trace, warmup
from spark_bench.load.slots import steps
from spark_bench.load.trace import Entry
from spark_bench.options import RunOptions
from spark_bench.prompts import sharegpt
from spark_bench.prompts.compose import Shape, compose
from spark_bench.prompts.tokens import Tokens
from spark_bench.prompts.traced import traced
from spark_bench.record import Job, Load, Prompt, Timing
from spark_bench.run.asking import Agreed
from spark_bench.run.scene import Scene

# Connections opened beforehand for a load that says nothing of how many it needs.
CONNECTIONS = 64
# What is due within this time after the start, in seconds, needs a connection each.
AT_ONCE = 0.001


def derived(seed: int, *what: object) -> int:
    """A seed for one part of a run: that of another part or another run has nothing in common."""
    return Random("/".join(map(str, (seed, *what)))).getrandbits(48)


def check_context(options: RunOptions, context: int | None) -> None:
    """BadInput for lengths that the model has no room for; files of prompts have their own."""
    profile = options.profile
    whole = options.turns * (profile.input_len + profile.output_len)
    if context is None or whole <= context or options.trace or options.sharegpt:
        return
    turns = f" in {options.turns} turns" if options.turns > 1 else ""
    raise BadInput(
        f"--input-len {profile.input_len} and --output-len {profile.output_len}{turns} are {whole} "
        f"tokens together, and the served model takes {context}: give less, or serve it with more "
        "(context_length)"
    )


def load(
    options: RunOptions,
    agreed: Agreed,
    tokens: Tokens,
    repeat: int,
    context: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Load:
    """The requests of one repeat, all their bytes made; the same for the same options.

    tell: is told what a reader of the result should know of the prompts
    """
    seed = derived(options.seed, "repeat", repeat)
    if options.trace:
        limit = options.profile.num_prompts
        entries = trace.read(options.trace, speed=options.trace_speed, limit=limit)
        prompts = traced(entries, tokens, seed, agreed.overhead)
        timings = trace.timings(entries)
    else:
        prompts = _prompts(options, agreed, tokens, seed, context, tell)
        timings = _timings(options, prompts, seed)
    return Load(
        jobs(agreed, prompts, timings),
        steps(options.profile.concurrency, options.ramp_slots),
        options.timeout,
        options.duration,
        _most_bytes(agreed, prompts),
    )


def warm_up(
    options: RunOptions, scene: Scene, load: Load, prompts: Sequence[Prompt], slots: int, turn: int
) -> Load:
    """Requests of these lengths and other content than the load's, so many in flight.

    turn: each has a content of its own
    """
    agreed = scene.agreed
    if options.cache == "hit":
        # All of the load's requests are one and the same, and shall be in the cache.
        same = [replaced(load.jobs[0], index=index) for index in range(len(prompts))]
        return Load(same, steps(slots), options.timeout, warmup.SECONDS, load.most_bytes)
    profile = options.profile
    entries = [Entry(0.0, p.input_tokens or profile.input_len, p.output_tokens) for p in prompts]
    # A cache that isn't emptied shall not know them from the point of a sweep before, either.
    seed = derived(options.seed, "warm-up", turn, profile.concurrency, profile.request_rate)
    texts = traced(entries, scene.tokens, seed, agreed.overhead)
    plain = [Timing()] * len(texts)
    made = jobs(agreed, texts, plain)
    return Load(made, steps(slots), options.timeout, warmup.SECONDS, load.most_bytes)


def _most_bytes(agreed: Agreed, prompts: Sequence[Prompt]) -> int:
    """What any answer of these may have; files of prompts and traces ask for different lengths."""
    return agreed.dialect.most_bytes(max((p.output_tokens for p in prompts), default=0))


def jobs(agreed: Agreed, prompts: Sequence[Prompt], timings: Sequence[Timing]) -> list[Job]:
    """Prompts as requests ready to be sent; of the prompts only what is read later stays."""
    made = []
    for index, (prompt, timing) in enumerate(zip(prompts, timings, strict=True)):
        body = agreed.dialect.body(prompt, agreed.asking)
        made.append(Job(index, agreed.envelope(body), timing, replaced(prompt, messages=())))
    return made


def connections(load: Load) -> int:
    """How many to open before the clock starts."""
    most = max((step.slots for step in load.steps), default=None)
    if most is not None:
        return min(most, len(load.jobs))
    at_once = sum(1 for job in load.jobs if job.timing.at < AT_ONCE and job.timing.after is None)
    return max(at_once, min(CONNECTIONS, len(load.jobs)))


def _prompts(
    options: RunOptions,
    agreed: Agreed,
    tokens: Tokens,
    seed: int,
    context: int | None,
    tell: Callable[[str], None],
) -> list[Prompt]:
    profile = options.profile
    if options.sharegpt:
        length = profile.output_len if "output_len" in options.overrides else None
        file, count = options.sharegpt, profile.num_prompts
        return sharegpt.load(file, count, seed, tokens, agreed.overhead, length, context, tell)
    shape = Shape(
        ceil(profile.num_prompts / options.turns),
        profile.input_len,
        profile.output_len,
        "hit" if options.cache == "hit" else "miss",
        options.shared_prefix,
        options.prefix_groups,
        options.turns,
    )
    content = _content(options, seed)
    return compose(shape, tokens, content, agreed.overhead)[: profile.num_prompts]


def _content(options: RunOptions, seed: int) -> int:
    """The seed of made-up prompts; `seed` is the repeat's."""
    if options.cache == "hit":
        # The repeats share their prompt, too: it is in the cache from the first on.
        return derived(options.seed, "repeat", 0)
    if options.sweep:
        # Each point has prompts of its own, lest a prefix cache has them from the one before.
        return derived(seed, options.profile.concurrency, options.profile.request_rate)
    return seed


def _timings(options: RunOptions, prompts: Sequence[Prompt], seed: int) -> list[Timing]:
    """Conversations begin by the rate, or at once; their turns follow."""
    rate = options.ramp or options.profile.request_rate
    count = len({prompt.conversation for prompt in prompts})
    starts = (
        arrivals.timings(count, rate, burstiness=options.burstiness, seed=derived(seed, "arrivals"))
        if rate
        else ()
    )
    return conversations.timings(prompts, starts=starts, pause=options.think_time)

"""The warm-up: uncounted requests before a load, so that its first repeat meets a server as warm as
the later ones do.

A server compiles kernels, grows its pools and fills its tables when it first gets a batch of some
size: on SGLang 0.5.11 the first run with 32 requests in flight was 10 % slower than the next, and
a single request before it changed nothing. So a warm-up has the load's own prompt lengths and its
own number of requests in flight, in rounds that are repeated until they get no faster.
"""

from collections.abc import Sequence
from math import ceil

from spark_bench.record import Load, Prompt

# Requests of a round per slot: the first ones start together, the others among running answers.
PER_SLOT = 2
# Most tokens of an answer: even what a server compiles late, it compiles at an answer's start.
ANSWER = 64
# All rounds after the first may take this share of the load's tokens, in prompts and answers.
SHARE = 0.5
# No round begins that would end later than this many seconds after the first began.
SECONDS = 60.0
# A round that is less than this share faster than the one before met a warm server.
STEADY = 0.05


def rate(load: Load) -> float | None:
    """Requests per second that a load sends on average, whatever the server does; None if it waits
    for responses."""
    last = max((job.timing.at for job in load.jobs), default=0.0)
    return _unbidden(load) / last if last > 0 else None


def in_flight(load: Load, seconds: float | None = None) -> int:
    """How many requests a load has in flight at once.

    seconds: how long one answer takes. A load with a rate then has as many in flight as arrive in
        that time (Little's law).
    """
    most = min([_unbidden(load), *(step.slots for step in load.steps[-1:])])
    arrivals = rate(load)
    if arrivals is not None and seconds is not None:
        most = min(most, ceil(arrivals * seconds))
    return max(1, most)


def sample_warm_up(load: Load, count: int) -> list[Prompt]:
    """`count` prompts with the lengths of a load's, chosen evenly from its start to its end, and
    with shortened answers. They have no messages yet."""
    chosen = [load.jobs[at * len(load.jobs) // count].prompt for at in range(count)]
    return [
        Prompt((), each.input_tokens, min(each.output_tokens, ANSWER), conversation=number)
        for number, each in enumerate(chosen)
    ]


def round_of(load: Load, slots: int) -> list[Prompt]:
    """The prompts of one round, as `sample_warm_up` gives them."""
    return sample_warm_up(load, min(PER_SLOT * slots, len(load.jobs)))


def most_rounds(load: Load, prompts: Sequence[Prompt]) -> int:
    """How many rounds of these prompts may precede a load: SHARE of its tokens, at least one."""
    whole = _tokens([job.prompt for job in load.jobs])
    return max(1, int(SHARE * whole / max(1, _tokens(prompts))))


def is_warm(seconds: Sequence[float], most: int) -> bool:
    """Whether no further round is needed or allowed, by the seconds that each one took so far."""
    return len(seconds) >= most or is_steady(seconds) or sum(seconds) + seconds[-1] > SECONDS


def is_steady(seconds: Sequence[float]) -> bool:
    """Whether the last round was no faster than the one before, within STEADY."""
    return len(seconds) > 1 and seconds[-1] >= (1 - STEADY) * seconds[-2]


def _unbidden(load: Load) -> int:
    """Requests that don't wait for another one's end, as the later turns of a conversation do."""
    return sum(job.timing.after is None for job in load.jobs)


def _tokens(prompts: Sequence[Prompt]) -> int:
    return sum((prompt.input_tokens or 0) + prompt.output_tokens for prompt in prompts)

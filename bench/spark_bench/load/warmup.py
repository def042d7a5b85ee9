"""How much goes before a load, uncounted, so that its first repeat meets a server as warm as the
others do.

A server compiles kernels, grows its pools and fills its tables when it first meets a batch of some
size: on SGLang 0.5.11 the first run with 32 requests in flight was 10 % slower than the next, and
one request before it changed nothing. So a warm-up has the load's own prompt lengths and its own
number of requests in flight, in rounds that end when they become no faster.
"""

from collections.abc import Sequence
from math import ceil

from spark_bench.record import Load, Prompt

# Requests of a round for each one in flight: the first come at once, the others among answers.
PER_SLOT = 2
# Tokens of an answer at most: what is compiled late is compiled at an answer's start.
ANSWER = 64
# All rounds after the first may take this share of the load's tokens, in prompts and answers.
SHARE = 0.5
# No round begins that would end later, in seconds after the first began.
SECONDS = 60.0
# A round that is faster than the one before by less than this share of it was a warm one.
STEADY = 0.05


def rate(load: Load) -> float | None:
    """Requests a second that a load sends on average whatever the server does; None: it waits."""
    last = max((job.timing.at for job in load.jobs), default=0.0)
    return _unbidden(load) / last if last > 0 else None


def in_flight(load: Load, seconds: float | None = None) -> int:
    """Requests that a load has in flight at one time.

    seconds: that one answer takes, for a load with a rate: by Little's law as many are in flight
        as come in that time
    """
    most = min([_unbidden(load), *(step.slots for step in load.steps[-1:])])
    arrivals = rate(load)
    if arrivals is not None and seconds is not None:
        most = min(most, ceil(arrivals * seconds))
    return max(1, most)


def sample_warm_up(load: Load, count: int) -> list[Prompt]:
    """So many of a load's prompts, evenly from its start to its end, with shortened answers."""
    chosen = [load.jobs[at * len(load.jobs) // count].prompt for at in range(count)]
    return [
        Prompt((), each.input_tokens, min(each.output_tokens, ANSWER), conversation=number)
        for number, each in enumerate(chosen)
    ]


def round_of(load: Load, slots: int) -> list[Prompt]:
    """The prompts of one round, as `sample_warm_up` gives them."""
    return sample_warm_up(load, min(PER_SLOT * slots, len(load.jobs)))


def most_rounds(load: Load, prompts: Sequence[Prompt]) -> int:
    """How many rounds of these prompts a load may have before it: one at least."""
    whole = _tokens([job.prompt for job in load.jobs])
    return max(1, int(SHARE * whole / max(1, _tokens(prompts))))


def is_warm(seconds: Sequence[float], most: int) -> bool:
    """Whether the rounds that took so long are enough: steady, or all that there may be."""
    return len(seconds) >= most or is_steady(seconds) or sum(seconds) + seconds[-1] > SECONDS


def is_steady(seconds: Sequence[float]) -> bool:
    """The last round was no faster than the one before."""
    return len(seconds) > 1 and seconds[-1] >= (1 - STEADY) * seconds[-2]


def _unbidden(load: Load) -> int:
    """Requests that wait for no other one's end, as the later turns of a conversation do."""
    return sum(job.timing.after is None for job in load.jobs)


def _tokens(prompts: Sequence[Prompt]) -> int:
    return sum((prompt.input_tokens or 0) + prompt.output_tokens for prompt in prompts)

"""How many tokens each token bearing event carried."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from spark_bench.protocol.deltas import Deltas

Counts = NDArray[np.int32]
# The tokens of each of an answer's texts; None where they can't be counted (any more).
Count = Callable[[list[str]], Sequence[int] | None]

# So many later deltas show how many tokens one delta can hold.
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The tokens of one answer.

    counts: of each token bearing event
    by: see Request.counted_by
    hidden: generated before the first visible one
    total: of the answer, hidden ones included
    """

    counts: Counts
    by: str
    hidden: int
    total: int


def count_tokens(deltas: Deltas, count: Count | None) -> TokenCounts:
    """The best counts there are: from the usage in each event; else one each where that agrees
    with the total; else the tokenizer's where they agree; else spread evenly.

    Without a total (no usage) they are the tokenizer's, or one each ("none": an assumption).
    """
    total = reported_total(deltas)
    if total is None:
        sizes = count(deltas.texts()) if count else None
        if sizes is None:
            return TokenCounts(_ones(deltas), "none", 0, len(deltas.tokens))
        return TokenCounts(np.array(sizes, np.int32), "tokenizer", 0, sum(sizes))
    if by_usage := _by_usage(deltas, total):
        return by_usage
    events = len(deltas.tokens)
    unseen = total - events
    # Some servers count reasoning that they never send (OpenAI's).
    reasoning = deltas.usage.reasoning if deltas.usage else 0
    if events and (not unseen or (unseen == reasoning and deltas.first_text == deltas.tokens[0])):
        return TokenCounts(_ones(deltas), "chunk", unseen, total)
    sizes = count(deltas.texts()) if count and events else None
    if sizes is not None and sum(sizes) == total:
        return TokenCounts(np.array(sizes, np.int32), "tokenizer", 0, total)
    if sizes is not None and unseen >= 0 and all(size == 1 for size in sizes):
        # The rest had no text: the end of sequence, if the model stopped by itself, and hidden
        # ones before the first.
        hidden = unseen - (deltas.finish_reason == "stop")
        return TokenCounts(_ones(deltas), "tokenizer", hidden, total)
    # Spread over the events, the first with the larger share.
    shares = -(-np.arange(events + 1, dtype=np.int64) * total // max(events, 1))
    even = np.diff(shares).astype(np.int32)
    return TokenCounts(even, "even" if events else "none", 0, total)


def reported_total(deltas: Deltas) -> int | None:
    """The output tokens by the server's last usage; None without one, or for 0 with text."""
    usage = deltas.usage
    if usage is None or (not usage.completion_tokens and deltas.tokens):
        return None
    return usage.completion_tokens or 0


def _by_usage(deltas: Deltas, total: int) -> TokenCounts | None:
    """From counts that grow with each event; None if a token bearing event has none, or if they
    don't grow with the text: a server may send 0, or the total, all along.

    Tokens that came without text belong to the next event with text, those before the first to
    nobody: they are hidden, as those after the last are.
    """
    if not deltas.tokens or deltas.usages[0][0] > deltas.tokens[0]:
        return None
    so_far = {i: usage.completion_tokens for i, usage in deltas.usages}
    grown = [so_far.get(i) for i in deltas.tokens]
    if None in grown or not grown[0] or (len(grown) > 1 and grown[0] == grown[-1]):
        return None
    earlier = takewhile(lambda usage: usage[0] < deltas.tokens[0], deltas.usages)
    before = max((usage.completion_tokens or 0 for _, usage in earlier), default=0)
    # The first text is a token, even where the event before it (a role) has counted that.
    before = min(before, grown[0] - 1)
    counts = np.diff(np.array(grown, np.int64), prepend=before).astype(np.int32)
    if counts.min() < 0 or before + counts.sum() > total:
        return None
    # SGLang sends nothing for harmony's channel markers, and the first text after them counts them
    # too: what exceeds the largest later event was hidden. Too few later events prove nothing.
    unseen = max(0, int(counts[0]) - max(1, int(counts[1:].max()))) if len(counts) > _SHOWN else 0
    counts[0] -= unseen
    return TokenCounts(counts, "usage", before + unseen, total)


def _ones(deltas: Deltas) -> Counts:
    return np.ones(len(deltas.tokens), np.int32)

"""Prompts for a recorded trace: its own texts, or random ones of its lengths."""

from collections.abc import Sequence

from spark_bench.load.trace import TraceEntry
from spark_bench.prompts.calibrate import Overhead
from spark_bench.prompts.compose import rng_for
from spark_bench.prompts.fitting import Draft, fit_length
from spark_bench.prompts.tokens import Tokens
from spark_bench.prompts.vocabulary import Vocabulary
from spark_bench.record import Message, Prompt

# Tokens of a hashed block (kvcache-ai/Mooncake, the README of its traces).
BLOCK = 512


def traced(
    entries: Sequence[TraceEntry], tokens: Tokens, seed: int, overhead: Overhead
) -> list[Prompt]:
    """A prompt an entry, in their order.

    Entries without texts get random ones of their length. Those whose `hash_ids` begin alike begin
    with the same text, whole blocks of it: their last block may be shorter, and is their own. An
    input length that the chat template alone exceeds becomes a content of one token.
    """
    words = tokens.words()
    blank = [number for number, entry in enumerate(entries) if not entry.messages]
    blocks = _blocks([entries[number] for number in blank], tokens, words, seed)
    drafts = [
        _draft(entries[number], number, blocks, words, seed, overhead.first) for number in blank
    ]
    texts = dict(zip(blank, fit_length(drafts, tokens, words), strict=True))
    sizes = dict(zip(blank, (draft.target + overhead.first for draft in drafts), strict=True))
    return [
        Prompt(
            entry.messages or (Message("user", texts[number]),),
            sizes.get(number),
            entry.output_len,
            conversation=number,
        )
        for number, entry in enumerate(entries)
    ]


def _blocks(
    entries: Sequence[TraceEntry], tokens: Tokens, words: Vocabulary, seed: int
) -> dict[int, str]:
    """The text of each hashed block that is some prompt's and not its last one."""
    ids = list(dict.fromkeys(block for entry in entries for block in entry.hash_ids[:-1]))
    drafts = [Draft(BLOCK, rng_for(seed, "block", block)) for block in ids]
    for draft in drafts:
        draft.add(BLOCK, words)
    return dict(zip(ids, fit_length(drafts, tokens, words), strict=True))


def _draft(
    entry: TraceEntry,
    number: int,
    blocks: dict[int, str],
    words: Vocabulary,
    seed: int,
    extra: int,
) -> Draft:
    target = max(1, (entry.input_len or 0) - extra)
    shared = entry.hash_ids[:-1][: (target - 1) // BLOCK]
    head = " ".join(blocks[block] for block in shared)
    draft = Draft(target, rng_for(seed, "entry", number), head)
    draft.add(target - BLOCK * len(shared), words)
    return draft

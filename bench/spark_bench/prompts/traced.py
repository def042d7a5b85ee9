"""Prompts for a recorded trace: its own texts, or random ones of its lengths."""

from collections.abc import Sequence

from spark_bench.load.trace import TraceEntry
from spark_bench.prompts.compose import Overhead, rng_for
from spark_bench.prompts.fitting import Draft, fit_length
from spark_bench.prompts.tokens import Tokens
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
    # The text of each hashed block that is some prompt's and not its last one.
    hashed = (block for number in blank for block in entries[number].hash_ids[:-1])
    block_drafts = {block: Draft(BLOCK, rng_for(seed, "block", block)) for block in hashed}
    for draft in block_drafts.values():
        draft.add(BLOCK, words)
    shared_texts = fit_length(list(block_drafts.values()), tokens, words)
    blocks = dict(zip(block_drafts, shared_texts, strict=True))
    drafts = {}
    for number in blank:
        entry = entries[number]
        target = max(1, (entry.input_len or 0) - overhead.first)
        shared = entry.hash_ids[:-1][: (target - 1) // BLOCK]
        head = " ".join(blocks[block] for block in shared)
        drafts[number] = Draft(target, rng_for(seed, "entry", number), head)
        drafts[number].add(target - BLOCK * len(shared), words)
    texts = dict(zip(drafts, fit_length(list(drafts.values()), tokens, words), strict=True))
    sizes = {number: draft.target + overhead.first for number, draft in drafts.items()}
    return [
        Prompt(
            entry.messages or (Message("user", texts[number]),),
            sizes.get(number),
            entry.output_len,
            conversation=number,
        )
        for number, entry in enumerate(entries)
    ]

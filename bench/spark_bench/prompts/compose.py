"""Prompts of exact lengths, made from a seed.

An input length of N means that the server counts N tokens (`usage.prompt_tokens == N`), including
its chat template and a beginning-of-text token. So the content has N tokens, by the tokenizer,
minus the template's overhead.

What the template adds is unknown until the server has responded once, so probes go first: prompts
composed with no overhead. What the response's `usage.prompt_tokens` has beyond their
`input_tokens`, which count only the content, is the overhead.

The same shape, tokenizer, overhead and seed give the same texts everywhere.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from random import Random
from statistics import median_low
from typing import Literal

import msgspec
from msgspec.structs import replace

from spark_bench import errors, record
from spark_bench.load.profile import is_long
from spark_bench.load.trace import TraceEntry
from spark_bench.prompts.fitting import Draft, fit_length
from spark_bench.prompts.tokens import Tokens, Vocabulary

_Pair = tuple[int, int]


class Overhead(msgspec.Struct, frozen=True):
    """Tokens of the chat template: what the server counts beyond the contents of the messages.

    first: for a conversation of one question
    turn: more for each further question and the answer before it
    steady: all probes agreed, so lengths can be exact
    """

    first: int = 0
    turn: int = 0
    steady: bool = True


class PromptShape(msgspec.Struct, frozen=True):
    """What the prompts of a run look like.

    prompts: how many conversations; each is `turns` requests
    input_tokens: of the first question, as the server counts it: template and shared prefix
        included. Each further turn adds as many again: its own part of the template and a new
        question
    output_tokens: to generate for each request, and the length of each made-up answer
    cache: "miss": no two prompts begin alike. Their first words differ while there are enough
        (up to 4096; beyond that, the first two together do), and all others are drawn anew, so
        that no prefix cache has a block of them from this run or from one with another seed. What
        the template puts before the content is the same for all, and stays in the cache.
        "hit": all conversations are the same. All requests but the first find theirs in a prefix
        cache, and so does the first if a warm-up with the same prompt went before
    shared_prefix: tokens at the start of the content that all prompts of a group have in common, in
        addition to what the template puts before them
    prefix_groups: conversation i is of group i % prefix_groups
    turns: questions of a conversation. A later turn's request contains the earlier questions
        verbatim, and made-up answers between them: all bytes are known before the run. A prefix
        cache that holds what the server generated itself doesn't find its own answers again; it
        reuses a turn's prompt up to the end of its last question
    long_every: one conversation in this many is long; None: all are alike
    long_input_tokens, long_output_tokens: of a long one, instead of the two above
    """

    prompts: int
    input_tokens: int
    output_tokens: int
    cache: Literal["miss", "hit"] = "miss"
    shared_prefix: int = 0
    prefix_groups: int = 1
    turns: int = 1
    long_every: int | None = None
    long_input_tokens: int = 0
    long_output_tokens: int = 0

    def lengths(self, number: int) -> tuple[int, int]:
        """Tokens of each question and of each answer of a conversation."""
        if is_long(number, self.long_every):
            return self.long_input_tokens, self.long_output_tokens
        return self.input_tokens, self.output_tokens


def compose(
    shape: PromptShape, tokens: Tokens, seed: int, overhead: Overhead | None = None
) -> list[record.Prompt]:
    """The prompts, conversation by conversation and turn by turn; `input_tokens` of each is what
    the server should count.

    overhead: of the chat template; None: it adds nothing

    Raises BadInput for a shape that is impossible.
    """
    overhead = overhead or Overhead()
    validate(shape, overhead)
    words = tokens.words()
    # Each group's shared prefix; none without one.
    openings = _openings(words.first, words.rest, seed, "prefixes")
    prefixes = [
        _draft(shape.shared_prefix, rng_for(seed, "prefix", group), words, opening=next(openings))
        for group in range(shape.prefix_groups if shape.shared_prefix else 0)
    ]
    heads = fit_length(prefixes, tokens, words)
    different = 1 if shape.cache == "hit" else shape.prompts
    drafts = list(_drafts(shape, overhead, different, heads, words, seed))
    texts = iter(fit_length(drafts, tokens, words))
    conversations = []
    for _ in range(different):
        # The messages of each turn's request: the earlier ones and its own.
        first = (record.Message("user", next(texts)),)
        further = (
            (record.Message("assistant", next(texts)), record.Message("user", next(texts)))
            for _ in range(1, shape.turns)
        )
        conversations.append(list(accumulate(further, initial=first)))
    return [
        record.Prompt(
            messages=messages,
            input_tokens=question + turn * (question + answer),
            output_tokens=answer,
            conversation=number,
            turn=turn,
        )
        for number in range(shape.prompts)
        for question, answer in [shape.lengths(number)]
        for turn, messages in enumerate(conversations[number % different])
    ]


def compose_depth(
    depth: int, shape: PromptShape, tokens: Tokens, seed: int, overhead: Overhead
) -> tuple[list[record.Prompt], list[record.Prompt]]:
    """Contexts of `depth` tokens, and prompts of the shape that begin with them, in that order.

    A prefix cache that has answered a context has all of the prompt up to there, but for what the
    chat template puts behind it.

    Raises BadInput for a depth that the template alone exceeds, and for an impossible shape.
    """
    if depth <= overhead.first:
        raise errors.BadInput(
            f"--depth {depth} is too short to be cached: the chat template takes {overhead.first} "
            f"tokens of it: give {overhead.first + 1} or more, or 0"
        )
    validate(shape, overhead)
    contexts = compose(replace(shape, input_tokens=depth), tokens, seed, overhead)
    words = tokens.words()
    drafts = [
        _draft(
            shape.input_tokens - overhead.first,
            rng_for(seed, "after", number),
            words,
            head=context.messages[0].content,
            head_tokens=depth - overhead.first,
        )
        for number, context in enumerate(contexts)
    ]
    texts = fit_length(drafts, tokens, words)
    return contexts, [
        record.Prompt(
            (record.Message("user", text),),
            shape.input_tokens,
            shape.output_tokens,
            conversation=number,
        )
        for number, text in enumerate(texts)
    ]


def validate(shape: PromptShape, overhead: Overhead) -> None:
    """Raise BadInput for a shape that no prompt can have."""
    for name, option in COUNTS.items():
        if getattr(shape, name) < 1:
            raise errors.BadInput(f"{option} {getattr(shape, name)}: must be 1 or more")
    if shape.shared_prefix < 0:
        raise errors.BadInput(f"--shared-prefix {shape.shared_prefix}: must be 0 or more")
    if shape.cache == "hit" and shape.shared_prefix:
        raise errors.BadInput(
            f"--shared-prefix {shape.shared_prefix} can't be used with --cache hit, where all"
            " prompts are the same: leave one of them out"
        )
    first = overhead.first + shape.shared_prefix + 1
    least = max(first, overhead.turn + 1) if shape.turns > 1 else first
    if shape.input_tokens < least:
        prefix = f" and --shared-prefix {shape.shared_prefix}" if shape.shared_prefix else ""
        raise errors.BadInput(
            f"--input-len {shape.input_tokens} is too short: the chat template takes"
            f" {max(overhead.first, overhead.turn)} tokens of it{prefix}, and the question at"
            f" least 1: give {least} or more, or use --endpoint completions, which has no template"
        )


COUNTS = {
    "prompts": "--num-prompts",
    "input_tokens": "--input-len",
    "output_tokens": "--output-len",
    "prefix_groups": "--prefix-groups",
    "turns": "--turns",
}


def rng_for(seed: int, *what: object) -> Random:
    """A generator of its own for each thing, so that no text depends on how many others there are.

    Random derives its state from the SHA-512 of a str: the same everywhere.
    """
    return Random("/".join(map(str, (seed, *what))))


def _drafts(
    shape: PromptShape,
    overhead: Overhead,
    different: int,
    heads: list[str],
    words: Vocabulary,
    seed: int,
) -> Iterator[Draft]:
    """A draft for each message of each conversation, in order."""
    firsts = words.rest if heads else words.first
    openings = _openings(firsts, words.rest, seed, "openings")
    for number in range(different):
        head = heads[number % len(heads)] if heads else ""
        question, answer = shape.lengths(number)
        yield _draft(
            question - overhead.first,
            rng_for(seed, "question", number, 0),
            words,
            head=head,
            head_tokens=shape.shared_prefix,
            opening=next(openings),
        )
        for turn in range(1, shape.turns):
            yield _draft(answer, rng_for(seed, "answer", number, turn), words)
            yield _draft(question - overhead.turn, rng_for(seed, "question", number, turn), words)


def _draft(
    target: int,
    rng: Random,
    words: Vocabulary,
    head: str = "",
    head_tokens: int = 0,
    opening: tuple[str, ...] = (),
) -> Draft:
    """A draft of `target` tokens if each word is one token; the head has `head_tokens` of them."""
    free = target - head_tokens
    draft = Draft(target, rng, head, list(opening[:free]))
    draft.add(free - len(draft.parts), words)
    return draft


def _openings(
    first: tuple[str, ...], second: tuple[str, ...], seed: int, what: str
) -> Iterator[tuple[str, ...]]:
    """Beginnings of texts, no two the same: one word while there are any left, then two words;
    nothing once those are used up."""
    order = _shuffled(first, rng_for(seed, what, 1))
    for word in order:
        yield (word,)
    for follower in _shuffled(second, rng_for(seed, what, 2)):
        for word in order:
            yield (word, follower)
    yield from repeat(())


def _shuffled(words: tuple[str, ...], rng: Random) -> list[str]:
    return sorted(words, key=lambda _: rng.random())


LENGTHS = (24, 57)  # two, far enough apart that a wrong tokenizer counts them differently
ANSWER = 7


def probe_prompts(tokens: Tokens, seed: int, turns: int = 1) -> list[record.Prompt]:
    """Two prompts of one question; if conversations have several turns, also two of two questions.

    They are composed with no overhead: `input_tokens` counts only their content.
    """
    prompts = [
        prompt
        for length in LENGTHS
        for prompt in compose(
            PromptShape(1, length, ANSWER, turns=min(turns, 2)), tokens, seed + length
        )
    ]
    return sorted(prompts, key=lambda prompt: prompt.turn)


def calibrate(first: Sequence[_Pair], second: Sequence[_Pair] = ()) -> Overhead:
    """The overhead, from probes.

    first: (tokens of the content, usage.prompt_tokens) of prompts of one question
    second: the same for prompts of a question, its answer and another question; without any,
        further turns are assumed to add nothing

    Two probes of different lengths tell a template (always the same overhead) from a tokenizer
    that isn't the server's (the longer the text, the more); then `steady` is False, and the lower
    median of the probes is used.
    """
    once, steady = _extra(first)
    twice, steady_twice = _extra(second)
    further = max(0, twice - once) if second else 0
    return Overhead(max(0, once), further, steady and steady_twice and once >= 0)


def _extra(pairs: Sequence[_Pair]) -> tuple[int, bool]:
    """How many tokens the server counts beyond the content, and whether all probes agree."""
    extra = [counted - content for content, counted in pairs]
    return (median_low(extra), len(set(extra)) == 1) if extra else (0, True)


def overhead(prompts: Sequence[record.Prompt], counted: Sequence[int]) -> Overhead:
    """What the template adds.

    prompts: the probes (see `probe_prompts`)
    counted: the `usage.prompt_tokens` of each
    """
    pairs = [
        (prompt.turn, (prompt.input_tokens or 0, count))
        for prompt, count in zip(prompts, counted, strict=True)
    ]
    first = [pair for turn, pair in pairs if turn == 0]
    return calibrate(first, [pair for turn, pair in pairs if turn == 1])


# Tokens of a hashed block, by the README of the traces in kvcache-ai/Mooncake.
BLOCK = 512


def compose_trace(
    entries: Sequence[TraceEntry], tokens: Tokens, seed: int, overhead: Overhead
) -> list[record.Prompt]:
    """Prompts for a recorded trace, one for each entry, in their order.

    Entries without texts get random ones of their length. Those whose `hash_ids` begin alike begin
    with the same text, in whole blocks; an entry's last block may be shorter and is never shared.
    If the chat template alone exceeds the input length, the content is one token.
    """
    words = tokens.words()
    blank = [number for number, entry in enumerate(entries) if not entry.messages]
    # All hashed blocks but the last one of each prompt: these can be shared.
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
        record.Prompt(
            entry.messages or (record.Message("user", texts[number]),),
            sizes.get(number),
            entry.output_len,
            conversation=number,
        )
        for number, entry in enumerate(entries)
    ]

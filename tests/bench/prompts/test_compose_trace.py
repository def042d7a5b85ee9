"""Prompts of a trace: of its lengths, alike where its hashes are alike."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given, settings, strategies as st
from spark_bench.load.trace import TraceEntry
from spark_bench.prompts.compose import BLOCK, Overhead, compose_trace
from spark_bench.prompts.library import LibraryTokens
from spark_bench.prompts.tokens import ApproximateTokens
from spark_bench.record import Message, Prompt
from tiny_tokenizers import KINDS, tiny

TEMPLATE = Overhead(first=30)
SEED = 5


def entry(tokens: int | None, *blocks: int, text: str = "") -> TraceEntry:
    messages = (Message("user", text),) if text else ()
    return TraceEntry(0.0, tokens, 4, blocks, messages)


def content(prompt: Prompt) -> str:
    (message,) = prompt.messages
    return message.content


def counted(prompt: Prompt, tokens: LibraryTokens) -> int:
    """As a server with that template counts it."""
    return tokens.count([content(prompt)])[0] + TEMPLATE.first


def common(one: str, other: str) -> str:
    """What both begin with."""
    return "".join(
        a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_match_the_trace(kind: str) -> None:
    tokens = tiny(kind)
    # The last ones: a whole block, one and two tokens more, and as many blocks and no remainder.
    sizes = [31, 100, 900, 542, 543, 544, 1055, 1056, 1057, 1566]
    blocks = [tuple(range(-(-size // BLOCK))) for size in sizes]
    entries = [entry(size, *ids) for size, ids in zip(sizes, blocks, strict=True)]
    prompts = compose_trace(entries, tokens, SEED, TEMPLATE)
    assert [prompt.input_tokens for prompt in prompts] == sizes
    assert [counted(prompt, tokens) for prompt in prompts] == sizes


def test_equal_hashes_give_equal_text_and_no_more() -> None:
    tokens = tiny("byte-level")
    entries = [entry(1600, 1, 2, 3, 4), entry(1700, 1, 2, 5, 6), entry(900, 7, 2)]
    first, second, third = map(content, compose_trace(entries, tokens, SEED, TEMPLATE))
    shared = common(first, second)
    assert tokens.count([shared])[0] == pytest.approx(2 * BLOCK, abs=8)
    # The same hash after another one is another prefix.
    assert len(common(first, third)) < 20


def test_last_blocks_are_unique_per_prompt() -> None:
    """Prompts that hash alike to the end still end apart, as Mooncake's last blocks may."""
    tokens = tiny("byte-level")
    one, other = map(
        content, compose_trace([entry(600, 1, 2), entry(600, 1, 2)], tokens, SEED, TEMPLATE)
    )
    assert one != other
    assert tokens.count([common(one, other)])[0] == pytest.approx(BLOCK, abs=8)


def test_without_hashes_all_prompts_differ() -> None:
    tokens = tiny("byte-level")
    texts = [content(p) for p in compose_trace([entry(200)] * 5, tokens, SEED, TEMPLATE)]
    assert len({text[:30] for text in texts}) == 5


def test_texts_of_the_trace_are_left_alone() -> None:
    entries = [entry(None, text="say it"), entry(50), entry(7, text="this, too")]
    prompts = compose_trace(entries, ApproximateTokens(), SEED, Overhead())
    assert [content(prompts[0]), content(prompts[2])] == ["say it", "this, too"]
    # What a text counts is the server's to say.
    assert [prompt.input_tokens for prompt in prompts] == [None, 50, None]
    assert [prompt.conversation for prompt in prompts] == [0, 1, 2]


def test_a_length_below_the_templates_becomes_one_token() -> None:
    tokens = tiny("byte-level")
    (prompt,) = compose_trace([entry(10)], tokens, SEED, TEMPLATE)
    assert tokens.count([content(prompt)]) == [1]
    assert prompt.input_tokens == 31


@settings(max_examples=10)
@given(st.lists(st.integers(31, 1800), min_size=1, max_size=6), st.integers(0, 99))
def test_the_seed_decides(sizes: list[int], seed: int) -> None:
    tokens = tiny("byte-level")
    entries = [entry(size, *range(-(-size // BLOCK))) for size in sizes]
    once = compose_trace(entries, tokens, seed, TEMPLATE)
    assert once == compose_trace(entries, tokens, seed, TEMPLATE)
    assert once != compose_trace(entries, tokens, seed + 1, TEMPLATE)
    # No prompt depends on those after it.
    assert compose_trace(entries[:1], tokens, seed, TEMPLATE) == once[:1]

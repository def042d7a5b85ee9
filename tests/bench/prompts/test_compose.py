"""Prompts have exactly the length asked for, and every byte of them comes from the seed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import spark_bench
from hypothesis import given, settings, strategies as st
from spark_bench.errors import BadInput
from spark_bench.prompts.compose import (
    Overhead,
    PromptShape,
    calibrate,
    compose,
    compose_depth,
    overhead,
    probe_prompts,
)
from spark_bench.prompts.fitting import Draft, fit_length, smallest
from spark_bench.prompts.library import LibraryTokens
from spark_bench.prompts.tokens import ApproximateTokens, Vocabulary
from spark_bench.record import Prompt
from tiny_tokenizers import KINDS, tiny

BLOCK = 16  # tokens; the smallest block of a paged prefix cache in use
TEMPLATE = Overhead(first=30, turn=11)


def total(prompt: Prompt, tokens: LibraryTokens, template: Overhead = TEMPLATE) -> int:
    """What a server whose template adds so much would count."""
    content = sum(tokens.count([message.content for message in prompt.messages]))
    return content + template.first + prompt.turn * template.turn


def text(prompt: Prompt) -> str:
    """Of the question, which is all content of a first turn."""
    return prompt.messages[-1].content


# Lengths


@pytest.mark.parametrize("kind", KINDS)
def test_every_length_is_exact(kind: str) -> None:
    tokens = tiny(kind)
    words = tokens.words()
    lengths = range(smallest(tokens, words), 601)
    texts = fit_length([Draft(length, Random(length)) for length in lengths], tokens, words)
    assert tokens.count(texts) == list(lengths)
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", text) for text in texts)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_every_shape_is_exact(kind: str, data: st.DataObject) -> None:
    tokens = tiny(kind)
    prefix = data.draw(st.integers(0, 40), "prefix")
    shape = PromptShape(
        prompts=data.draw(st.integers(1, 6), "prompts"),
        input_tokens=data.draw(st.integers(TEMPLATE.first + prefix + 4, 200), "input"),
        output_tokens=data.draw(st.integers(2, 40), "output"),
        shared_prefix=prefix if prefix > 3 else 0,
        prefix_groups=data.draw(st.integers(1, 3), "groups"),
        turns=data.draw(st.integers(1, 4), "turns"),
    )
    prompts = compose(shape, tokens, data.draw(st.integers(0, 99), "seed"), TEMPLATE)
    assert len(prompts) == shape.prompts * shape.turns
    for prompt in prompts:
        wanted = (prompt.turn + 1) * shape.input_tokens + prompt.turn * shape.output_tokens
        assert total(prompt, tokens) == prompt.input_tokens == wanted
        assert prompt.output_tokens == shape.output_tokens


class CountingTokens(ApproximateTokens):
    """Remembers how many texts it counted at a time."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        self.calls.append(len(texts))
        return super().count(texts)


def test_words_of_one_token_are_counted_once() -> None:
    tokens = CountingTokens()
    compose(PromptShape(100, 1024, 1), tokens, 1)
    assert sum(tokens.calls) == 100


def test_one_token_is_a_length() -> None:
    (prompt,) = compose(PromptShape(1, 31, 1), tiny("byte-level"), 1, TEMPLATE)
    assert tiny("byte-level").count([text(prompt)]) == [1]


class TwoTokens(ApproximateTokens):
    """Counts nothing but even lengths."""

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        return [2 * count for count in super().count(texts)]


def test_an_unreachable_length_is_bad_input() -> None:
    assert TwoTokens().count([text(compose(PromptShape(1, 8, 1), TwoTokens(), 1)[0])]) == [8]
    with pytest.raises(BadInput, match=r"exactly 9 tokens .* the shortest has 2"):
        compose(PromptShape(1, 9, 1), TwoTokens(), 1)


# The seed

GOLDEN = "coast double back father cause bring check dress"


def test_a_seed_is_the_same_texts_everywhere() -> None:
    """Whatever the platform, the Python and its hash seed."""
    assert text(compose(PromptShape(3, 8, 1), ApproximateTokens(), 42)[1]) == GOLDEN


def test_another_process_composes_the_same_bytes() -> None:
    code = (
        "from spark_bench.prompts.compose import *;"
        "from spark_bench.prompts.tokens import ApproximateTokens as T;"
        "print(compose(PromptShape(9, 40, 8, turns=3, shared_prefix=5, prefix_groups=2), T(), 7))"
    )
    package = str(Path(spark_bench.__file__).parents[1])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": package, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    here = compose(
        PromptShape(9, 40, 8, turns=3, shared_prefix=5, prefix_groups=2), ApproximateTokens(), 7
    )
    assert outputs == {f"{here}\n"}


def test_a_prompt_does_not_depend_on_how_many_follow() -> None:
    tokens = tiny("byte-level")
    assert compose(PromptShape(20, 64, 4), tokens, 1)[:5] == compose(
        PromptShape(5, 64, 4), tokens, 1
    )


# Prefix caches


def blocks(prompts: Sequence[Prompt], kind: str) -> Iterator[tuple[int, ...]]:
    """The first block of each prompt's tokens."""
    tokenizer = KINDS[kind]()
    for prompt in prompts:
        yield tuple(tokenizer.encode(text(prompt), add_special_tokens=False).ids[:BLOCK])


@pytest.mark.parametrize("kind", ["byte-level", "bytes-only", "unigram", "wordpiece"])
def test_miss_shares_no_block_within_a_run_nor_with_another_seed(kind: str) -> None:
    one, other = (compose(PromptShape(300, 48, 1), tiny(kind), seed) for seed in (1, 2))
    assert len({*blocks(one, kind), *blocks(other, kind)}) == 600


def test_miss_begins_with_another_word_each_as_long_as_there_are_some() -> None:
    tokens = ApproximateTokens()
    enough = len(tokens.words().first)
    prompts = compose(PromptShape(2 * enough, 32, 1), tokens, 1)
    assert len({text(p).split()[0] for p in prompts[:enough]}) == enough
    assert len({tuple(text(p).split()[:2]) for p in prompts[enough:]}) == enough


def test_a_small_vocabulary_still_makes_as_many_prompts_as_requested() -> None:
    class FewWords(ApproximateTokens):
        def words(self) -> Vocabulary:
            return Vocabulary(("good", "day"), (" good", " day"))

    assert len(compose(PromptShape(40, 32, 1), FewWords(), 1)) == 40


def test_cache_hit_repeats_one_conversation() -> None:
    prompts = compose(PromptShape(4, 48, 8, cache="hit", turns=2), tiny("byte-level"), 1, TEMPLATE)
    assert len({p.messages for p in prompts if p.turn == 0}) == 1
    assert len({p.messages for p in prompts if p.turn == 1}) == 1
    assert [p.conversation for p in prompts] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_group_shares_its_prefix_and_nothing_more() -> None:
    shape = PromptShape(12, 64, 1, shared_prefix=20, prefix_groups=3)
    prompts = compose(shape, tiny("byte-level"), 1)
    tokenizer = KINDS["byte-level"]()
    ids = [tokenizer.encode(text(prompt)).ids for prompt in prompts]
    for group in range(3):
        members = ids[group::3]
        assert len({tuple(tokens[:20]) for tokens in members}) == 1
        assert len({tokens[20] for tokens in members}) == len(members)
    assert len({tokens[0] for tokens in ids}) == 3


# Conversations


def test_later_turns_hold_the_earlier_ones_verbatim() -> None:
    prompts = compose(PromptShape(3, 48, 8, turns=3), tiny("byte-level"), 1, TEMPLATE)
    for earlier, later in pairwise(prompts):
        if later.turn:
            assert later.conversation == earlier.conversation
            assert later.messages[: len(earlier.messages)] == earlier.messages
            answer, question = later.messages[len(earlier.messages) :]
            assert (answer.role, question.role) == ("assistant", "user")
            assert tiny("byte-level").count([answer.content]) == [8]
    assert [p.turn for p in prompts] == [0, 1, 2] * 3


# Shapes that can't be


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        pytest.param(PromptShape(0, 8, 8), "--num-prompts 0: must be 1 or more", id="prompts"),
        pytest.param(PromptShape(1, 0, 8), "--input-len 0: must be 1 or more", id="input"),
        pytest.param(PromptShape(1, 64, -1), "--output-len -1: must be 1 or more", id="output"),
        pytest.param(PromptShape(1, 64, 1, turns=0), "--turns 0: must be 1", id="turns"),
        pytest.param(
            PromptShape(1, 64, 1, prefix_groups=0), "--prefix-groups 0: must", id="groups"
        ),
        pytest.param(
            PromptShape(1, 64, 1, shared_prefix=-3), "--shared-prefix -3: must", id="prefix"
        ),
        pytest.param(
            PromptShape(1, 30, 1),
            "--input-len 30 is too short: the chat template takes 30 tokens of it, and the question"
            " at least 1: give 31 or more, or use --endpoint completions",
            id="template",
        ),
        pytest.param(
            PromptShape(1, 50, 1, shared_prefix=20),
            "takes 30 tokens of it and --shared-prefix 20, and the question at least 1: give 51",
            id="template-and-prefix",
        ),
        pytest.param(
            PromptShape(2, 90, 1, cache="hit", shared_prefix=20),
            "--shared-prefix 20 can't be used with --cache hit",
            id="hit-with-prefix",
        ),
    ],
)
def test_an_impossible_shape(shape: PromptShape, message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        compose(shape, ApproximateTokens(), 1, TEMPLATE)


# Calibration


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_probes_find_what_the_template_adds(turns: int) -> None:
    tokens = tiny("byte-level")
    prompts = probe_prompts(tokens, 3, turns)
    assert [prompt.turn for prompt in prompts] == ([0, 0] if turns == 1 else [0, 0, 1, 1])
    added = overhead(prompts, [total(prompt, tokens) for prompt in prompts])
    assert added == Overhead(30, 11 if turns > 1 else 0, steady=True)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param([], [], Overhead(0, 0), id="nothing-known"),
        pytest.param([(8, 8), (13, 13)], [], Overhead(0, 0), id="no-template"),
        pytest.param([(8, 38), (13, 43)], [(21, 62), (31, 72)], Overhead(30, 11), id="chatml"),
        pytest.param([(10, 41), (20, 53), (30, 66)], [], Overhead(33, 0, False), id="other-words"),
        pytest.param([(10, 7), (20, 17)], [], Overhead(0, 0, False), id="fewer"),
        pytest.param([(8, 38)], [(21, 62), (31, 73)], Overhead(30, 11, False), id="turns-differ"),
    ],
)
def test_calibrate(
    first: list[tuple[int, int]], second: list[tuple[int, int]], expected: Overhead
) -> None:
    assert calibrate(first, second) == expected


# At a depth


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [35, 64, 300])
def test_prompts_begin_with_their_contexts_and_both_are_exact(kind: str, depth: int) -> None:
    tokens, shape = tiny(kind), PromptShape(3, depth + 40, 8)
    contexts, prompts = compose_depth(depth, shape, tokens, 7, TEMPLATE)
    for context, prompt in zip(contexts, prompts, strict=True):
        assert text(prompt).startswith(text(context))
        assert (total(context, tokens), context.input_tokens) == (depth, depth)
        assert (total(prompt, tokens), prompt.input_tokens) == (depth + 40, depth + 40)
        assert (context.conversation, context.turn) == (prompt.conversation, prompt.turn)
    assert len({text(prompt)[:BLOCK] for prompt in prompts}) == 3
    assert compose_depth(depth, shape, tokens, 7, TEMPLATE) == (contexts, prompts)


def test_a_depth_within_the_template_cannot_be_cached() -> None:
    with pytest.raises(BadInput, match=r"--depth 30 is too short to be cached.*give 31 or more"):
        compose_depth(30, PromptShape(1, 70, 8), tiny(next(iter(KINDS))), 7, TEMPLATE)

"""What a recorded exchange means: real servers' streams, odd ones, and every kind of failure."""

from __future__ import annotations

import gc
import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import wire_bytes as wire
from hypothesis import given, strategies as st
from spark_bench.protocol import failures
from spark_bench.protocol.dialects import RequestTerms, dialect
from spark_bench.protocol.failures import Failure
from spark_bench.protocol.reading import Count, read_exchange, same_model
from spark_bench.record import Ended, Request
from spark_bench.run.responses import blank_events_note
from wire_bytes import delta, event, usage

ROLE = delta(role="assistant", content="")
END = delta(finish="length")


def understood(
    reads: list[bytes],
    ended: Ended = Ended.COMPLETE,
    endpoint: str = "chat",
    model: str = "",
    terms: RequestTerms | None = None,
    **more: Any,
) -> Request:
    exchange = wire.exchange(reads, ended, detail="broke", reused=True)
    return read_exchange(
        exchange, wire.job(), dialect(endpoint), terms or RequestTerms(model), **more
    )


def by_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def by_letters(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def out_of_time(texts: list[str]) -> None:
    """A tokenizer that may count no more."""


def streamed(*payload: Any, done: bool = True, **more: Any) -> Request:
    """One read for the head, one for each event, one for the last chunk."""
    pieces = [event(each) for each in payload] + [wire.DONE] * done
    return understood(wire.chunked(pieces), **more)


def counts(request: Request) -> tuple[list[int], str, int, int]:
    """Tokens by delta, how they are known, the hidden ones, all of them."""
    return (
        request.token_counts.tolist(),
        request.counted_by,
        request.hidden_tokens,
        request.output_tokens,
    )


# Deltas and counts in other shapes than OpenAI's

THOUGHTS = [
    pytest.param({"thinking": "a"}, id="thinking"),
    pytest.param({"content": None, "reasoning_text": "a"}, id="reasoning_text"),
    pytest.param({"content": "", "thoughts": "a", "role": "assistant"}, id="thoughts"),
    pytest.param({"thought": {"parts": [{"text": "a"}]}}, id="nested"),
    pytest.param({"reasoning": {"content": "a"}}, id="object"),
    pytest.param({"reasoning_content": [{"type": "text", "text": "a"}]}, id="list"),
    pytest.param({"reasoning_details": [{"type": "reasoning.text", "text": "a"}]}, id="details"),
    pytest.param({"thinking_blocks": [{"type": "thinking", "thinking": "a"}]}, id="blocks"),
    pytest.param(
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
        id="parts",
    ),
    pytest.param({"content": {"type": "reasoning", "text": "a"}}, id="typed-part"),
    pytest.param({"provider_specific_fields": {"reasoning": "a"}}, id="provider"),
]
TEXTS = [
    pytest.param({"content": [{"type": "text", "text": "a"}]}, id="parts"),
    pytest.param({"content": ["a"]}, id="strings"),
    pytest.param({"content": {"text": "a"}}, id="object"),
    pytest.param({"refusal": "a"}, id="refusal"),
    pytest.param({"function_call": {"name": "a", "arguments": ""}}, id="function-call"),
    pytest.param({"audio": {"id": "1", "transcript": "a"}}, id="transcript"),
    pytest.param(
        {"tool_calls": [{"type": "custom", "custom": {"name": "", "input": "a"}}]}, id="custom-call"
    ),
    pytest.param("a", id="a-string"),
]


def shaped(delta: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@pytest.mark.parametrize("thought", THOUGHTS)
def test_reasoning_in_any_field_is_tokens_but_not_text(thought: Any) -> None:
    events = [ROLE, *[shaped(thought)] * 3, shaped({"content": "b"}), END, usage(4)]
    request = streamed(*events, keep_text=True)
    assert (request.failure, request.token_ns.tolist()) == ("", [3000, 4000, 5000, 6000])
    assert counts(request) == ([1, 1, 1, 1], "chunk", 0, 4)
    assert (request.text_ns, request.text) == (6000, "aaab")


@pytest.mark.parametrize("text", TEXTS)
def test_text_in_any_shape_is_a_token(text: Any) -> None:
    request = streamed(ROLE, shaped(text), shaped({"content": "b"}), END, usage(2), keep_text=True)
    assert (request.failure, request.token_ns.tolist()) == ("", [3000, 4000])
    assert (request.text_ns, request.text) == (3000, "ab")


def test_the_last_token_may_come_with_the_end() -> None:
    last = shaped({"thinking": "b"})
    last["choices"][0]["finish_reason"] = "length"
    request = streamed(ROLE, shaped({"thinking": "a"}), last, usage(2))
    assert counts(request) == ([1, 1], "chunk", 0, 2)
    assert request.finish_reason == "length"


@pytest.mark.parametrize(("tokens", "borne"), [(3, [3000, 4000, 5000]), (1, [5000])])
def test_fields_of_unknown_names_are_text_where_the_answer_lacks_some(
    tokens: int, borne: list[int]
) -> None:
    odd = [shaped({"xyz": word}) for word in "ab"]
    request = streamed(ROLE, *odd, shaped({"content": "c"}), END, usage(tokens))
    assert request.token_ns.tolist() == borne


def test_fields_of_unknown_names_without_counts_are_text_if_they_differ() -> None:
    events = [shaped({"xyz": "a"}), shaped({"xyz": "b"}), shaped({"content": "c"}), END]
    assert len(streamed(*events, usage_expected=False).token_ns) == 3
    events = [shaped({"xyz": "a"}), shaped({"xyz": "a", "content": "c"}), END]
    assert len(streamed(*events, usage_expected=False).token_ns) == 1


def test_events_that_stand_for_tokens_and_show_none_are_counted() -> None:
    events = [ROLE, *[shaped({})] * 6, shaped({"content": "a"}), shaped({"content": "b"}), END]
    request = streamed(*events, usage(8))
    assert (request.blank_events, request.counted_by) == (6, "even")
    assert "6 of 8 tokens had no delta with text" in blank_events_note([request])
    plain = streamed(ROLE, X, X, END, usage(2))
    assert plain.blank_events == 0 and not blank_events_note([plain])


def test_reasoning_that_is_counted_and_never_sent_is_hidden() -> None:
    event = usage(7, completion_tokens_details={"reasoning_tokens": 5})
    assert counts(streamed(ROLE, X, X, END, event)) == ([1, 1], "chunk", 5, 7)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"completion_tokens": 2.0, "prompt_tokens": 9.0}, id="floats"),
        pytest.param({"completion_tokens": "2", "prompt_tokens": "9"}, id="strings"),
        pytest.param({"completion_tokens": "2.0", "prompt_tokens": 9}, id="both"),
        pytest.param({"output_tokens": 2, "input_tokens": 9}, id="other-names"),
        pytest.param(
            {"completion_tokens": 2.0, "prompt_tokens": 9, "prompt_tokens_details": None,
             "completion_tokens_details": {"reasoning_tokens": ""}},
            id="details",
        ),
        pytest.param([{"completion_tokens": 2, "prompt_tokens": 9}], id="a-list"),
    ],
)  # fmt: skip
def test_unusual_usage_counts_are_read(payload: Any) -> None:
    request = streamed(ROLE, X, X, END, {"model": "m", "choices": [], "usage": payload})
    assert counts(request) == ([1, 1], "chunk", 0, 2)
    assert (request.prompt_tokens, request.usage) == (9, True)


@pytest.mark.parametrize(
    "payload", [None, {}, {"completion_tokens": None}, {"completion_tokens": ""}]
)
def test_missing_counts_stay_missing(payload: Any) -> None:
    stream = [ROLE, X, X, END, {"model": "m", "choices": [], "usage": payload}]
    assert counts(streamed(*stream, usage_expected=False)) == ([1, 1], "none", 0, 2)
    assert failed(streamed(*stream))[0] == Failure.MISSING_USAGE


def test_generate_with_counts_as_floats() -> None:
    events = [generated("a", 1.0), generated("ab", "2", {"type": "length"})]  # type: ignore[arg-type]
    assert counts(streamed(*events, endpoint="generate")) == ([1, 1], "usage", 0, 2)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b'"\xf0\x9f"', id="half-a-character"),
        pytest.param(b'"\\ud83d"', id="half-a-surrogate"),
        pytest.param(b'"a"},"logprobs":{"token_logprobs":[-Infinity]', id="infinity"),
    ],
)
def test_events_that_are_not_quite_json(part: bytes) -> None:
    odd = b'data: {"model":"m","choices":[{"delta":{"content":' + part + b"}}]}\n\n"
    reads = wire.chunked([event(ROLE), odd, event(X), event(END), event(usage(2)), wire.DONE])
    request = understood(reads, keep_text=True)
    assert (request.failure, len(request.token_ns)) == ("", 2)
    request.text.encode()


# Real servers


def test_sglang_chat() -> None:
    request = understood(wire.chunked(wire.events(wire.SGLANG_CHAT)), model="tiny-qwen2")
    assert (request.failure, request.detail, request.status) == ("", "", 200)
    assert (request.index, request.scheduled_ns, request.sent_ns) == (7, 10, 20)
    assert (request.asked_input, request.asked_output, request.reused) == (17, 4, True)
    assert (request.conversation, request.turn) == (3, 2)
    assert (request.first_event_ns, request.text_ns, request.done_ns) == (2000, 3000, 8000)
    assert request.token_ns.tolist() == [3000, 4000, 5000]
    # Four tokens in three deltas, and nobody to tell them apart.
    assert counts(request) == ([2, 1, 1], "even", 0, 4)
    assert (request.prompt_tokens, request.cached_tokens, request.usage) == (17, None, True)
    assert (request.finish_reason, request.merged_reads) == ("length", 0)


def test_sglang_chat_with_usage_in_every_event() -> None:
    request = understood(wire.chunked(wire.events(wire.SGLANG_CONTINUOUS)), model="tiny-qwen2")
    assert request.ok
    assert counts(request) == ([1, 1], "usage", 0, 2)
    assert request.token_ns.tolist() == [3000, 4000]


def test_sglang_completions() -> None:
    pieces = wire.events(wire.SGLANG_COMPLETIONS)
    request = understood(wire.chunked(pieces), endpoint="completions", keep_text=True)
    assert request.ok
    assert (request.first_event_ns, request.text_ns) == (2000, 2000)
    assert counts(request) == ([1, 1, 1], "chunk", 0, 3)
    assert (request.text, request.finish_reason) == ("learne them", "length")
    assert request.stopped_early


def test_sglang_reasoning() -> None:
    counts = usage(3, reasoning_tokens=2, completion_tokens_details={"reasoning_tokens": 2})
    request = streamed(
        ROLE,
        delta(reasoning_content=" K"),
        delta(reasoning_content=" L"),
        delta(reasoning_content=None, content=" M"),
        END,
        counts,
        keep_text=True,
    )
    assert request.token_ns.tolist() == [3000, 4000, 5000]
    assert (request.text_ns, request.reasoning_tokens) == (5000, 2)
    assert request.text == " K L M"


def generated(text: str, tokens: int, finish: Any = None, **more: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": 9, "completion_tokens": tokens, "finish_reason": finish, **more}
    return {"text": text, "output_ids": [1], "meta_info": counts}


def test_sglang_generate_sends_the_whole_text_each_time() -> None:
    request = streamed(
        generated("", 1),
        generated(" K", 2),
        generated(" K", 3),
        generated(" K\ufffd", 4),
        generated(" Ké L", 6, {"type": "length", "length": 6}, cached_tokens=5),
        endpoint="generate",
        keep_text=True,
    )
    assert request.ok
    assert counts(request) == ([1, 2, 2], "usage", 1, 6)
    assert request.token_ns.tolist() == [3000, 5000, 6000]
    assert (request.prompt_tokens, request.cached_tokens) == (9, 5)
    assert request.finish_reason == "length"


def test_sglang_generate_with_incremental_output() -> None:
    events = [generated("a", 1), generated("b", 2), generated("a", 3, {"type": "stop"})]
    request = streamed(*events, endpoint="generate", keep_text=True)
    assert (request.text, request.finish_reason) == ("aba", "stop")
    assert counts(request) == ([1, 1, 1], "usage", 0, 3)


def test_vllm_sends_half_characters_as_empty_content() -> None:
    events = [
        delta(role="assistant", content="", usage=0),
        delta(content="a", usage=1),
        delta(content="", usage=2),
        delta(content="é", usage=3),
        delta(reasoning="b", usage=4),
        delta(content="", finish="length", usage=4),
    ]
    request = streamed(*events, usage(4) | {"system_fingerprint": "vllm-0.32.0"})
    assert request.ok
    assert counts(request) == ([1, 2, 1], "usage", 0, 4)
    assert request.token_ns.tolist() == [3000, 5000, 6000]


def test_llamacpp_chat() -> None:
    events = [delta(role="assistant", content=None), delta(content="The"), delta(finish="stop")]
    request = streamed(*events, usage(1) | {"timings": {"prompt_n": 1, "prompt_ms": 2.5}})
    assert request.ok
    assert counts(request) == ([1], "chunk", 0, 1)


def test_llamacpp_completions_sends_usage_with_its_finish() -> None:
    finish = {"choices": [{"text": "", "index": 0, "finish_reason": "length"}]}
    events = [{"choices": [{"text": "a", "index": 0, "finish_reason": None}]}] * 2
    request = streamed(*events, finish | {"usage": wire.tokens(2)}, endpoint="completions")
    assert request.ok
    assert counts(request) == ([1, 1], "chunk", 0, 2)


def test_transformers_ends_without_done() -> None:
    events = [ROLE, delta(content="a"), END | {"usage": wire.tokens(1), "model": "org/m@main"}]
    request = streamed(*events, done=False, model="m")
    assert request.ok
    # The last chunk's read, not the finish_reason's.
    assert (request.done_ns, request.output_tokens) == (5000, 1)


def test_an_unstreamed_answer_has_tokens_but_no_times() -> None:
    terms = RequestTerms("tiny-qwen2", stream=False)
    body = wire.SGLANG_WHOLE.encode()
    request = understood([wire.sized(body)[:50], wire.sized(body)[50:]], terms=terms)
    assert request.ok
    assert counts(request) == ([], "none", 0, 4)
    assert (len(request.token_ns), request.text_ns, request.done_ns) == (0, 0, 2000)
    whole = generated("a b", 2, {"type": "length"})
    request = understood(
        [wire.sized(wire.event(whole)[6:])], endpoint="generate", terms=terms, keep_text=True
    )
    assert (request.ok, request.output_tokens, request.text) == (True, 2, "a b")


# Tokens


@pytest.mark.parametrize("key", ["content", "reasoning_content", "reasoning"])
def test_a_role_or_an_empty_delta_is_no_token(key: str) -> None:
    request = streamed(ROLE, delta(**{key: ""}), delta(), delta(**{key: " "}), END, usage(1))
    assert (request.first_event_ns, request.token_ns.tolist()) == (2000, [5000])
    assert request.text_ns == (5000 if key == "content" else 0)


def test_tool_calls_are_tokens_once_they_have_text() -> None:
    def call(**function: Any) -> dict[str, Any]:
        return delta(tool_calls=[{"index": 0, "id": "1", "function": function}])

    events = [
        ROLE,
        delta(tool_calls=[{"index": 0}]),
        call(name="f", arguments=""),
        call(arguments="{"),
    ]
    request = streamed(*events, delta(finish="tool_calls"), usage(2), keep_text=True)
    assert (request.text_ns, request.token_ns.tolist()) == (4000, [4000, 5000])
    assert request.text == "f{"


def test_text_and_tool_call_in_one_event_are_one_delta() -> None:
    counts = delta(content="a", tool_calls=[{"function": {"name": "f"}}])
    assert streamed(counts, END, usage(2), keep_text=True).token_ns.tolist() == [2000]


def test_tokens_before_the_first_visible_one_are_hidden() -> None:
    events = [delta(content="", usage=3), *(delta(content="x", usage=n) for n in (4, 6))]
    assert counts(streamed(*events, END, usage(7))) == ([1, 2], "usage", 3, 7)


@pytest.mark.parametrize(
    ("grown", "shared", "hidden"),
    [
        pytest.param([4, 5, 6, 7, 8], [1, 1, 1, 1, 1], 3, id="hidden"),
        pytest.param([4, 8, 12, 16, 18], [4, 4, 4, 4, 2], 0, id="four-each"),
        pytest.param([7, 11, 15, 19, 21], [4, 4, 4, 4, 2], 3, id="four-each-and-hidden"),
        pytest.param([64, 100], [64, 36], 0, id="too-few-to-tell"),
    ],
)
def test_a_first_delta_with_a_high_count_means_hidden_tokens(
    grown: list[int], shared: list[int], hidden: int
) -> None:
    events = [delta(content="x", usage=n) for n in grown]
    request = streamed(ROLE, *events, END, usage(grown[-1]))
    assert counts(request) == (shared, "usage", hidden, grown[-1])


def test_a_role_event_may_already_count_the_first_token() -> None:
    role = delta(role="assistant", content="", usage=1)
    events = [role, delta(content="x", usage=1), delta(content="y", usage=2)]
    assert counts(streamed(*events, END, usage(2))) == ([1, 1], "usage", 0, 2)


@pytest.mark.parametrize("each", [0, 2], ids=["none-till-the-end", "the-total-all-along"])
def test_counts_that_do_not_grow_are_none(each: int) -> None:
    events = [delta(content="x", usage=each), delta(content="y", usage=each)]
    assert counts(streamed(*events, END, usage(2))) == ([1, 1], "chunk", 0, 2)


@pytest.mark.parametrize(
    ("texts", "total", "finish", "expected"),
    [
        pytest.param(["a", "b"], 2, "length", ([1, 1], "chunk", 0, 2), id="one-each"),
        pytest.param(["a b", "c"], 3, "length", ([2, 1], "tokenizer", 0, 3), id="tokenizer"),
        pytest.param(["a b", "c"], 5, "length", ([3, 2], "even", 0, 5), id="disagrees"),
        pytest.param(["a", "b"], 5, "length", ([1, 1], "tokenizer", 3, 5), id="hidden"),
        pytest.param(["a", "b"], 3, "stop", ([1, 1], "tokenizer", 0, 3), id="end-of-sequence"),
        pytest.param(
            ["a", "b", "c"], 2, "length", ([1, 1, 0], "even", 0, 2), id="fewer-than-deltas"
        ),
    ],
)
def test_deltas_without_usage_of_their_own(
    texts: list[str], total: int, finish: str, expected: tuple[list[int], str, int, int]
) -> None:
    events = [delta(content=text) for text in texts]
    request = streamed(*events, delta(finish=finish), usage(total), count=by_words)
    assert counts(request) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(by_letters, ([2, 1], "tokenizer", 0, 3), id="tokenizer"),
        pytest.param(None, ([1, 1], "none", 0, 2), id="deltas"),
        pytest.param(out_of_time, ([1, 1], "none", 0, 2), id="out-of-time"),
    ],
)
def test_a_server_that_sends_no_usage(
    count: Count | None, expected: tuple[list[int], str, int, int]
) -> None:
    request = streamed(
        delta(content="ab"), delta(content="c"), END, count=count, usage_expected=False
    )
    assert (request.ok, request.usage) == (True, False)
    assert counts(request) == expected


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param([delta(content="x", usage=3), delta(content="y", usage=1)], id="falling"),
        pytest.param([delta(content="x", usage=1), delta(content="y")], id="with-gaps"),
        pytest.param([delta(content="x", usage=1), delta(content="y", usage=9)], id="above-total"),
    ],
)
def test_usage_that_makes_no_sense_is_not_used_by_delta(odd: list[dict[str, Any]]) -> None:
    assert counts(streamed(*odd, END, usage(5))) == ([3, 2], "even", 0, 5)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 3))
def test_counts_always_add_up(grown: list[int], after: int) -> None:
    total, event = 0, []
    for step in grown:
        total += step
        event.append(delta(content="x" if step else "", usage=total))
    request = streamed(*event, END, usage(total + after))
    if request.ok:
        assert request.token_counts.sum() + request.hidden_tokens == total
        assert len(request.token_counts) == len(request.token_ns) == sum(map(bool, grown))
        assert request.token_counts.min() >= 1


# Any split of the bytes


@given(st.sampled_from([wire.SGLANG_CHAT, wire.SGLANG_CONTINUOUS]), st.lists(st.integers(0, 9999)))
def test_any_split_gives_the_same_tokens_at_the_times_of_their_reads(
    sample: str, cuts: list[int]
) -> None:
    events = wire.events(sample)
    reads = wire.split(b"".join(wire.chunked(events)), cuts)
    request = understood(reads)
    plain = understood(wire.chunked(events))
    assert counts(request) == counts(plain)
    at = len(wire.CHUNKED)
    stamps = []
    for each in events:
        at += len(wire.chunk(each))
        # The chunk's own line end may come later than the event's.
        held = next(i for i in range(len(reads)) if sum(map(len, reads[: i + 1])) >= at - 2)
        stamps.append(1000 * (held + 1))
    assert request.first_event_ns == stamps[0]
    assert request.done_ns == stamps[-1]
    assert request.token_ns.tolist() == stamps[1 : 1 + len(request.token_ns)]
    completing = [stamps.count(stamp) for stamp in set(stamps)]
    assert request.merged_reads == sum(held > 1 for held in completing)


@pytest.mark.parametrize(
    "reads",
    [
        pytest.param([b"HTTP/1.0 200 OK\r\n\r\n"], id="until-close"),
        pytest.param([wire.OK + b"content-length: 999999\r\n\r\n"], id="cut-after-done"),
    ],
)
def test_a_body_without_chunks(reads: list[bytes]) -> None:
    request = understood([*reads, *wire.events(wire.SGLANG_CHAT)])
    assert request.ok
    assert request.token_ns.tolist() == [3000, 4000, 5000]


def test_reading_costs_less_than_json_loads_alone() -> None:
    """The share of the client's own time that the parser may take: about half of that."""
    parts = [delta(content=f" w{i}") | {"object": "chat.completion.chunk"} for i in range(2000)]
    events = [event(each) for each in (*parts, END, usage(2000))]
    exchange = wire.exchange(wire.chunked([*events, wire.DONE]))

    def cpu(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    def reading() -> None:
        assert (
            read_exchange(exchange, wire.job(), dialect("chat"), RequestTerms("m")).output_tokens
            == 2000
        )

    def loading() -> None:
        assert len([json.loads(each[6:]) for each in events]) == 2002

    assert min(cpu(reading) for _ in range(7)) < min(cpu(loading) for _ in range(7))


@pytest.mark.parametrize(
    ("reads", "endpoint"),
    [
        pytest.param(wire.chunked([event(delta(content="x")), wire.DONE]), "chat", id="chat"),
        pytest.param(
            wire.chunked([event({"text": "x", "meta_info": {"completion_tokens": 1}}), wire.DONE]),
            "generate",
            id="generate",
        ),
    ],
)
def test_reading_leaves_no_reference_cycles(reads: list[bytes], endpoint: str) -> None:
    """It is off while a run is read, and a run may have a million events."""
    understood(reads, endpoint=endpoint)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            understood(reads, endpoint=endpoint)
        assert gc.collect() < 20
    finally:
        gc.enable()


# Failures

X = delta(content="x")
CUT_BODY = b"".join(map(wire.chunk, [event(ROLE), event(X)]))


def failed(request: Request) -> tuple[str, str]:
    assert not request.ok
    return request.failure, request.detail


@pytest.mark.parametrize("ended", [each for each in Ended if each is not Ended.COMPLETE])
def test_a_connection_that_ended_first(ended: Ended) -> None:
    assert failed(understood([], ended)) == (ended.value, "broke, before any token")
    assert failed(understood([b"HTTP/1.1 20"], ended))[0] == ended.value
    request = understood([wire.CHUNKED, CUT_BODY, b'f5\r\ndata: {"id'], ended)
    assert failed(request) == (ended.value, "broke, after 1 events with tokens")
    assert request.token_ns.tolist() == [2000]


def test_an_end_before_the_framing_ends_is_a_cut() -> None:
    assert failed(understood([wire.CHUNKED + CUT_BODY]))[0] == Failure.CUT
    assert failed(understood([b""]))[0] == Failure.CUT


@pytest.mark.parametrize("ended", [Ended.CUT, Ended.TIMEOUT, Ended.RESET, Ended.INTERRUPTED])
def test_an_answer_that_had_ended_counts_whatever_breaks_then(ended: Ended) -> None:
    pieces = [event(each) for each in (X, END, usage(1))]
    without_last = wire.chunked([*pieces, wire.DONE])[:-1]
    assert understood(without_last, ended).done_ns == 5000
    without_done = wire.chunked(pieces)[:-1]
    request = understood(without_done, ended)
    assert (request.ok, request.done_ns) == (True, 4000)
    # Its usage was still to come, so it is not known how many tokens it has.
    assert failed(understood(without_done[:-1], ended))[0] == ended.value
    assert understood(without_done[:-1], ended, usage_expected=False).ok


def test_an_unframed_body_is_whole_only_if_the_server_closed() -> None:
    reads = [b"HTTP/1.0 200 OK\r\n\r\n", event(X)]
    assert failed(understood(reads))[0] == Failure.UNFINISHED
    assert failed(understood(reads, Ended.TIMEOUT))[0] == Failure.TIMEOUT


def test_pieces_of_a_completion_without_text_are_counted() -> None:
    pieces = [{"model": "m", "choices": [{"text": "", "reasoning": "a"}]}] * 2
    last = {"model": "m", "choices": [{"text": "b", "finish_reason": "length"}]}
    request = streamed(*pieces, last, usage(3), endpoint="completions")
    assert (request.ok, request.counted_by, request.blank_events) == (True, "even", 2)


@pytest.mark.parametrize("payload", [None, {"code": 200, "message": "connected"}, {"type": "ping"}])
def test_an_event_without_content(payload: Any) -> None:
    assert counts(streamed(payload, X, END, usage(1))) == ([1], "chunk", 0, 1)


def test_an_empty_finish_reason_is_none() -> None:
    events = [delta(content="x") | {"choices": [{"delta": {"content": "x"}, "finish_reason": ""}]}]
    assert failed(streamed(*events, done=False))[0] == Failure.UNFINISHED


SGLANG_ERROR = {"object": "error", "message": "out of memory", "type": "InternalError", "code": 500}


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(event({"error": SGLANG_ERROR}), id="sglang"),
        pytest.param(event({"error": {"message": "out of memory", "code": None}}), id="openai"),
        pytest.param(event({"error": "out of memory"}), id="text"),
        pytest.param(event(SGLANG_ERROR), id="vllm"),
        pytest.param(event({"code": 500, "message": "out of memory"}), id="code"),
        pytest.param(event({"errors": "out of memory"}), id="errors"),
        pytest.param(event({"type": "error", "message": "out of memory"}), id="type"),
        pytest.param(event({"status": "error", "detail": "out of memory"}), id="status"),
        pytest.param(event({"success": False, "msg": "out of memory"}), id="success"),
        pytest.param(event(usage(1) | {"error": {"message": "out of memory"}}), id="with-usage"),
        pytest.param(b'error: {"code":500,"message":"out of memory"}\n\n', id="llamacpp"),
        pytest.param(b"event: error\ndata: out of memory\n\n", id="event-name"),
    ],
)
@pytest.mark.parametrize("last", [[wire.DONE], []], ids=["done", "no-done"])
def test_an_error_in_the_stream(error: bytes, last: list[bytes]) -> None:
    reads = wire.chunked([event(X), error, *last])
    assert failed(understood(reads)) == (Failure.STREAM_ERROR, "out of memory")
    assert failed(understood(reads[:-1], Ended.CUT)) == (Failure.STREAM_ERROR, "out of memory")


@pytest.mark.parametrize("endpoint", ["completions", "generate"])
def test_an_error_in_a_stream_of_another_endpoint(endpoint: str) -> None:
    request = streamed({"error": SGLANG_ERROR}, endpoint=endpoint)
    assert failed(request) == (Failure.STREAM_ERROR, "out of memory")


def test_an_aborted_answer_is_an_error() -> None:
    assert failed(streamed(X, delta(finish="abort"), usage(1)))[0] == Failure.STREAM_ERROR
    abort = generated("a", 1, {"type": "abort", "message": "no room"})
    request = streamed(abort, endpoint="generate")
    assert failed(request) == (Failure.STREAM_ERROR, "no room")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        pytest.param("401 Unauthorized", b'{"error":"no key"}', "http_401", "no key", id="401"),
        pytest.param("404 Not Found", b'{"detail":"Not Found"}', "http_404", "Not Found", id="404"),
        pytest.param("429 Too Many", b'{"message":"slow"}', "http_429", "slow", id="429"),
        pytest.param("500 Oops", b"", "http_500", "HTTP 500: ", id="empty"),
        pytest.param(
            "502 Bad Gateway",
            b"<html><title>502 Bad\nGateway</title>",
            "http_502",
            "502 Bad Gateway",
            id="page",
        ),
        pytest.param("503 x", b"loading", "http_503", "loading", id="text"),
        pytest.param("301 Moved", b"", "http_301", "", id="redirect"),
        pytest.param(
            "422 x",
            b'{"detail":[{"loc":["body"],"msg":"extra"}]}',
            "http_422",
            "extra",
            id="fastapi",
        ),
        pytest.param(
            "400 Bad Request",
            b'{"object":"error","message":"max_completion_tokens is too large: 99999.This model '
            b'supports at most 1024 completion tokens.","type":"BadRequestError","code":400}',
            "http_400",
            "too large",
            id="too-long",
        ),
        pytest.param(
            "404 x",
            b'{"error":{"message":"The model `x` does not exist.","code":404}}',
            "model_not_found",
            "does not exist",
            id="vllm-model",
        ),
        pytest.param(
            "400 x",
            b'{"error":{"message":"no","code":"model_not_found"}}',
            "model_not_found",
            "no",
            id="openai-model",
        ),
    ],
)
def test_statuses(status: str, body: bytes, kind: str, words: str) -> None:
    request = failed(understood([wire.sized(body, status)]))
    assert request[0] == kind
    assert words in request[1]


def test_a_status_counts_though_its_body_broke_off() -> None:
    request = understood([wire.sized(b"loading the model", "503 x")[:-5]], Ended.CUT)
    assert failed(request) == ("http_503", "HTTP 503: loading the")


def test_long_error_messages_are_shortened() -> None:
    detail = understood([wire.sized(b"word " * 500, "500 x")]).detail
    assert len(detail) < 220
    assert detail.endswith("…")


@pytest.mark.parametrize(
    ("reads", "kind", "words"),
    [
        pytest.param([b"SSH-2.0-x\r\n"], "malformed_http", "SSH", id="not-http"),
        pytest.param([wire.CHUNKED + b"zz\r\n"], "malformed_http", "zz", id="chunk-size"),
        pytest.param([wire.sized(b"<html>hi")], "malformed_sse", "<html>", id="page"),
        pytest.param(wire.chunked([event(X), b"oops\n\n"]), "malformed_sse", "oops", id="line"),
        pytest.param(
            wire.chunked([event(X), b'data: {"choices":[\n\n', wire.DONE]),
            "malformed_json",
            "event 1",
            id="json",
        ),
        pytest.param(
            wire.chunked([*[event(X)] * 300, b'data: {"choices":[\n\n', wire.DONE]),
            "malformed_json",
            "event 300",
            id="json-late",
        ),
        pytest.param(
            wire.chunked([b'data: {"choices":5}\n\n']), "malformed_json", "choices", id="shape"
        ),
        pytest.param(
            wire.chunked([b'data: {"usage":{"completion_tokens":99999999999}}\n\n']),
            "malformed_json",
            "2147483647",
            id="absurd-count",
        ),
        pytest.param(
            wire.chunked([b"data: " + b"[" * 100_000 + b"\n\n"]),
            "malformed_json",
            "event 0",
            id="deep",
        ),
        pytest.param([wire.sized(wire.SGLANG_WHOLE.encode())], "not_streamed", "", id="whole"),
        pytest.param([wire.sized(b'{"error":"full"}')], "stream_error", "full", id="200-error"),
        pytest.param([wire.sized(b"")], "unfinished", "after 0", id="empty"),
        pytest.param(
            wire.chunked([event(ROLE), event(X)]), "unfinished", "after 1", id="no-finish"
        ),
        pytest.param(
            wire.chunked([event(ROLE), event(END), event(usage(3)), wire.DONE]),
            "no_tokens",
            "length",
            id="no-tokens",
        ),
        pytest.param(wire.chunked([wire.DONE]), "no_tokens", "none", id="done-alone"),
        pytest.param(
            wire.chunked([event(X), event(END), wire.DONE]), "missing_usage", "after 1", id="usage"
        ),
    ],
)
def test_answers_that_do_not_count(reads: list[bytes], kind: str, words: str) -> None:
    request = understood(reads)
    assert failed(request)[0] == kind
    assert words in request.detail


def test_a_response_that_is_too_large_is_a_failure_of_its_own() -> None:
    request = streamed(X, END, usage(1), ended=Ended.TOO_LARGE)
    assert failed(request) == (Failure.TOO_LARGE, "broke, after 1 events with tokens")
    bomb = wire.OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(bytes(1 << 25), 9)
    assert failed(understood([bomb])) == (
        Failure.TOO_LARGE,
        "more than 16809984 bytes when decompressed",
    )


def test_a_cut_answer_in_one_piece_is_cut() -> None:
    part = wire.sized(wire.SGLANG_WHOLE.encode())[:-20]
    for terms in (RequestTerms(""), RequestTerms("", stream=False)):
        assert failed(understood([part], Ended.CUT, terms=terms))[0] == Failure.CUT


def test_the_name_behind_an_alias_is_accepted() -> None:
    terms = RequestTerms("alias", answers_as="m")
    assert streamed(X, END, usage(1), terms=terms).ok
    assert streamed(X, END, usage(1), terms=RequestTerms("m", answers_as="behind")).ok
    other = streamed(X, END, usage(1), terms=RequestTerms("alias", answers_as="behind"))
    assert failed(other)[0] == Failure.WRONG_MODEL


def test_another_model_than_requested() -> None:
    request = streamed(X, END, usage(1), model="other")
    assert failed(request) == (Failure.WRONG_MODEL, "asked for 'other', answered by 'm'")


@pytest.mark.parametrize(
    ("requested", "answered", "same"),
    [
        ("m", "m", True),
        ("", "m", True),
        ("m", "", True),
        ("org/m", "m", True),
        ("m", "org/m@main", True),
        ("/models/m", "m", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("a/m", "b/m", False),
        ("m", "m2", False),
        ("llama-3", "llama-3-70b", False),
    ],
)
def test_same_model(requested: str, answered: str, same: bool) -> None:
    assert same_model(requested, answered) is same


STREAM = b"".join(wire.chunked(wire.events(wire.SGLANG_CONTINUOUS)))


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from(list(Ended)),
    st.sampled_from(["chat", "completions", "generate"]),
)
def test_no_bytes_crash_the_reading(
    changes: list[tuple[int, int]], ended: Ended, endpoint: str
) -> None:
    data = bytearray(STREAM)
    for at, byte in changes:
        data[at % len(data)] = byte
    request = understood(wire.split(bytes(data), [100, 700]), ended, endpoint)
    assert request.failure == "" or failures.cure(request.failure)
    assert len(request.token_counts) == len(request.token_ns)


@pytest.mark.parametrize("kind", [*Failure, "http_401", "http_302", "http_418"])
def test_each_kind_has_a_meaning_and_a_cure(kind: str) -> None:
    assert "\n" not in failures.meaning(kind) + failures.cure(kind)
    assert min(len(failures.meaning(kind)), len(failures.cure(kind))) > 15


@pytest.mark.parametrize("kind", ["another", "http_", "http_x", "http_9999", ""])
def test_another_versions_failure_kind_has_a_meaning_and_a_fix(kind: str) -> None:
    assert min(len(failures.meaning(kind)), len(failures.cure(kind))) > 15


def test_every_end_of_a_connection_has_its_kind() -> None:
    assert {each: failures.of_connection(each).value for each in Ended if each != "complete"} == {
        each: each.value for each in Ended if each != "complete"
    }

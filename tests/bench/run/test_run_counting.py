"""Counting tokens that the server does not tell apart costs little, and what is left is said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_call import CHAT, DONE, LAST_CHUNK, STREAM_HEAD, Call, envelope, event, finish, usage
from faulty_server import FaultyServer
from run_here import Ran, run, short
from spark_bench.errors import BenchError
from spark_bench.run import responses
from spark_bench.run.responses import TokenCounter, counting_seconds

PROMPTS, OUTPUT = 12, 40
LOAD = [*short(n=PROMPTS, c=4, o=OUTPUT), "--quiet", "--no-metrics"]


class FakeOldSglang(FaultyServer):
    """Events of one to three words, each word a token; counts in the last event alone, as SGLang
    0.5.3 tells them whatever is asked.

    takes_list: /tokenize takes a list of texts, as SGLang's does; else one text, as vLLM's
    unseen: tokens of each answer that no text shows
    seconds: that each answer of /tokenize takes once an answer has been streamed
    answers: what /tokenize answers from then on, in place of counts; None: counts
    """

    def __init__(
        self,
        *,
        takes_list: bool = True,
        unseen: int = 0,
        seconds: float = 0.0,
        answers: object = None,
    ) -> None:
        super().__init__()
        self.takes_list, self.unseen = takes_list, unseen
        self.seconds, self.answers = seconds, answers
        self.streamed = 0

    def counted_after_streams(self) -> list[Call]:
        """The requests to /tokenize that are not for making prompts."""
        last = max(i for i, call in enumerate(self.calls) if call.path == CHAT)
        return [call for call in self.calls[last:] if call.path == "/tokenize"]

    def _answer(self, call: Call) -> bool:
        if call.path == CHAT:
            self._stream(call)
        elif call.path == "/tokenize":
            self._tokenize(call)
        else:
            return super()._answer(call)
        return True

    def _stream(self, call: Call) -> None:
        counts = usage(call)
        words = [f" word{n}" for n in range(call.tokens - self.unseen)]
        texts, at = list[str](), 0
        while at < len(words):
            texts.append("".join(words[at : at + 1 + len(texts) % 3]))
            at += 1 + (len(texts) - 1) % 3
        pieces = [{"index": 0, "delta": {"content": text}} for text in texts]
        events = [event({**envelope(call), "choices": [piece]}) for piece in pieces]
        last = event({**envelope(call), "choices": [], "usage": counts})
        call.send_head(STREAM_HEAD)
        call.send_chunks([*events, finish(call), last, DONE])
        call.send(LAST_CHUNK)
        self.streamed += call.tokens == OUTPUT

    def _tokenize(self, call: Call) -> None:
        prompt = call.json.get("prompt")
        if self.streamed == PROMPTS:
            time.sleep(self.seconds)
            if isinstance(self.answers, int):
                call.send_error(f"{self.answers} Refused", "the tokenizer is gone")
                return
            if self.answers is not None:
                call.send_json(self.answers)
                return
        if isinstance(prompt, list) and self.takes_list:
            call.send_json({"count": [len(text.split()) for text in prompt], "tokens": []})
        elif isinstance(prompt, str) and not self.takes_list:
            call.send_json({"count": len(prompt.split()), "tokens": []})
        else:
            call.send_error("400 Bad Request", "prompt: of another type")


def measured(server: FakeOldSglang, here: Path, *words: str) -> Ran:
    with server:
        return run(server.url, *LOAD, *words, here=here)


@pytest.fixture
def short_bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The bounds of a run of 5 s."""
    monkeypatch.setattr(responses, "LEAST_SECONDS", 0.5)
    yield


def test_an_answers_texts_are_counted_in_one_request(tmp_path: Path) -> None:
    server = FakeOldSglang()
    ran = measured(server, tmp_path)
    summary = ran.result.summary
    assert summary.itl_source == {"tokenizer": 1.0}
    assert summary.total_output_tokens == PROMPTS * OUTPUT
    assert {r.token_counts.tolist()[1] for r in ran.requests} == {2}
    # A busy machine may make the client late; that is another reason.
    notes = (*ran.result.audit.reasons, *ran.result.notes)
    assert not [each for each in notes if "separated" in each or "not counted" in each]
    # All answers say the same words: those of the first are remembered.
    assert len(server.counted_after_streams()) == 1


def test_counting_ends_when_its_time_is_over(tmp_path: Path, short_bounds: None) -> None:
    """One text a request, of 0.1 s each: the 21 different ones would take 2 s."""
    server = FakeOldSglang(takes_list=False, seconds=0.1)
    ran = measured(server, tmp_path)
    assert len(server.counted_after_streams()) <= 6
    assert ran.result.summary.itl_source == {"even": 1.0}
    assert ran.result.summary.total_output_tokens == PROMPTS * OUTPUT
    note = next(note for note in ran.result.notes if "evenly" in note)
    assert "12 of 12 answers had events of several tokens" in note
    assert "counted tokens for 0.5 s, the limit for a run of this length" in note
    assert ran.result.audit.verdict == "approximate"
    assert any("its p99 may be too low" in reason for reason in ran.result.audit.reasons)


def test_an_answer_that_does_not_come_is_not_waited_for(tmp_path: Path, short_bounds: None) -> None:
    server = FakeOldSglang(seconds=5)
    with server:
        ran = run(server.url, *LOAD, here=tmp_path)
        began = time.monotonic()
    assert ran.result.summary.itl_source == {"even": 1.0}
    assert len(server.counted_after_streams()) == 1
    assert ran.result.audit.wall_seconds < 5 and time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        pytest.param(500, "HTTP 500", id="500"),
        pytest.param(429, "HTTP 429", id="429"),
        pytest.param({"count": []}, "0 counts for 21 texts", id="too-few"),
        pytest.param({"count": [2**40] * 21}, "<= 2147483647", id="absurd"),
        pytest.param({"count": [-1] * 21}, ">= 0", id="below-0"),
        pytest.param({"count": ["1"] * 21}, "Expected `int`", id="words"),
        pytest.param({"count": 21}, "Expected `array`", id="one"),
        pytest.param([], "Expected `object`", id="a-list"),
    ],
)
def test_a_tokenizer_that_fails_loses_no_run(tmp_path: Path, answers: object, words: str) -> None:
    ran = measured(FakeOldSglang(answers=answers), tmp_path)
    assert ran.code == 0 and ran.result.status == "complete"
    assert ran.result.summary.itl_source == {"even": 1.0}
    note = next(note for note in ran.result.notes if "evenly" in note)
    assert "stopped answering" in note and words in note


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param([], "no tokenizer finds as many tokens", id="auto"),
        pytest.param(["--count-tokens", "usage"], "no tokenizer was used", id="usage"),
    ],
)
def test_indistinguishable_tokens_are_noted(tmp_path: Path, words: list[str], why: str) -> None:
    server = FakeOldSglang(unseen=3)
    ran = measured(server, tmp_path, *words)
    assert ran.result.summary.itl_source == {"even": 1.0}
    output = f"there are no counts with each event, and {why}"
    assert any(output in note for note in ran.result.notes)
    assert ran.result.audit.verdict == "approximate"
    assert bool(server.counted_after_streams()) == (not words)


def test_the_counting_time_is_a_tenth_of_the_run() -> None:
    assert counting_seconds(0.0) == counting_seconds(5.0) == 2.0
    assert counting_seconds(60.0) == pytest.approx(6.0)
    assert counting_seconds(100.0) == counting_seconds(3600.0) == 10.0


class StandInTokens:
    """Counts letters; `lists` are those that it was asked for."""

    name = "a stand-in"
    exact = True

    def __init__(self, error: str = "") -> None:
        self.lists = list[list[str]]()
        self.error = error

    def count(self, texts: list[str], seconds: float | None = None) -> list[int]:
        self.lists.append(list(texts))
        if self.error:
            raise BenchError(self.error)
        return [len(text) for text in texts]


def test_texts_are_fetched_once_each() -> None:
    tokens = StandInTokens()
    counting = TokenCounter(tokens, 9.0)  # type: ignore[arg-type] # no words are made here
    assert counting(["a", "bb", "a"]) == [1, 2, 1]
    assert counting(["bb", "ccc"]) == [2, 3]
    assert counting(["a", "ccc"]) == [1, 3]
    assert tokens.lists == [["a", "bb"], ["ccc"]]


def test_cached_counts_still_apply_after_an_error() -> None:
    tokens = StandInTokens()
    counting = TokenCounter(tokens, 9.0)  # type: ignore[arg-type] # no words are made here
    counting(["a"])
    tokens.error = "it is gone"
    assert counting(["a", "b"]) is None
    assert counting.stopped == "it is gone"
    assert counting(["a"]) == [1] and counting(["b"]) is None
    assert len(tokens.lists) == 2

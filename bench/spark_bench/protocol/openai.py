"""The events of /v1/chat/completions and /v1/completions."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.protocol.deltas import (
    Deltas,
    Usage,
    decode_events,
    events_before_done,
    lenient_json,
    note_error,
    note_odd,
    usage_of,
)

# finish_reasons of answers that an engine gave up.
_BROKEN_OFF = {"abort", "error"}
# Fields of a delta, part or call whose text is not part of the answer.
_NO_TEXT = {
    *("role", "name", "id", "index", "type", "object", "format", "signature", "encrypted_content"),
    *("finish_reason", "stop_reason", "status", "model", "created", "logprobs", "token_ids"),
    *("annotations", "citations", "obfuscation", "provider", "language", "data", "mime_type"),
    *("recipient", "channel", "event", "timestamp", "tool_call_id", "system_fingerprint"),
    *("url", "image_url", "uuid", "created_at", "done_reason"),
}
# Names of fields that hold the answer's text.
_TEXT = re.compile(
    r"content|text|refusal|answer|output|message|summary|transcript|argument|parts|response"
    r"|completion|generated|calls?$",
    re.IGNORECASE,
)
# Names of fields and parts whose text is reasoning: thinking, reasoning_text, thoughts …
_THOUGHT = re.compile(r"reason|think|thought|analysis|chain_of|cot\b|reflect|scratch", re.I)


class Function(Struct, gc=False):
    """A call's function: its name, or the next piece of its arguments."""

    name: str | None = None
    arguments: Any = None


class ToolCallDelta(Struct, gc=False):
    """A tool call, or a piece of one."""

    function: Function | None = None


class Delta(Struct, gc=False):
    """What an event adds to the message.

    Reasoning is in `reasoning_content` with SGLang and llama.cpp, in `reasoning` with vLLM.
    """

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallDelta] | None = None

    def calls(self) -> str:
        """The text of its tool calls."""
        functions = [call.function for call in self.tool_calls or () if call.function]
        return "".join([f"{each.name or ''}{each.arguments or ''}" for each in functions])

    def text(self) -> str:
        """All the text that it adds, reasoning first."""
        thought = self.reasoning_content or self.reasoning or ""
        return f"{thought}{self.content or ''}{self.calls()}"


def delta_of(value: Any) -> Delta:
    """Read a delta of any shape: a text, parts, or fields that only this server has.

    Any text that is not known to be something else belongs to the answer. It is reasoning if the
    name of its field or the type of its part says so.
    """
    texts = list(_texts(value, thought=False))
    return Delta(
        content="".join(text for thought, text in texts if not thought) or None,
        reasoning="".join(text for thought, text in texts if thought) or None,
    )


def _texts(value: Any, thought: bool) -> Iterator[tuple[bool, str]]:
    """Yield the texts in a value, each with whether it is reasoning."""
    if isinstance(value, str):
        # Replace half a surrogate, which could not be saved as UTF-8.
        yield thought, value.encode("utf-8", "replace").decode()
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, thought)
    elif isinstance(value, dict):
        thought = thought or _THOUGHT.search(str(value.get("type"))) is not None
        has_reasoning = value.get("reasoning_content") or value.get("reasoning")
        for name, each in value.items():
            # A call's name was generated as text, a speaker's name was not.
            # OpenRouter sends the same text a second time, in parts.
            text = name not in _NO_TEXT or (name == "name" and "arguments" in value)
            if text and not (has_reasoning and name == "reasoning_details"):
                yield from _texts(each, thought or _THOUGHT.search(name) is not None)


class AnswerChoice(Struct, gc=False):
    """One answer: `delta` of a streamed chat, `message` of a whole one, `text` of a completion."""

    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    def added(self) -> str:
        """All the text that it adds."""
        delta = self.delta or self.message
        return self.text or "" if delta is None else delta.text()


class OpenAIChunk(Struct, gc=False):
    """One event."""

    choices: list[AnswerChoice] | None = None
    usage: Usage | None = None
    error: Any = None


class _Named(Struct, gc=False):
    model: Any = None


_decode = msgspec.json.Decoder(OpenAIChunk).decode
_decode_name = msgspec.json.Decoder(_Named).decode


class _Apart(Struct, gc=False):
    """A choice whose delta is left undecoded."""

    delta: msgspec.Raw = msgspec.Raw()


class _Undecoded(Struct, gc=False):
    choices: list[_Apart] = []


_undecoded = msgspec.json.Decoder(_Undecoded).decode


def parse_openai_events(data: Sequence[bytes]) -> Deltas:
    """Parse the events of a stream; an answer in one piece counts as one event."""
    deltas = Deltas()
    data = events_before_done(data, deltas)
    empty: dict[int, OpenAIChunk] = {}
    for i, chunk in enumerate(decode_events(data, _decode, deltas, _lenient_chunk)):
        if chunk.choices:
            choice = chunk.choices[0]
            delta = choice.delta
            if delta is None:
                _note_undelta(i, choice, deltas)
            elif delta.content:
                deltas.tokens.append(i)
                if deltas.first_text < 0:
                    deltas.first_text = i
            elif delta.reasoning_content or delta.reasoning:
                deltas.tokens.append(i)
            elif not delta.tool_calls or not delta.calls():
                empty[i] = chunk
            if delta is not None and delta.tool_calls and delta.calls():
                if not deltas.tokens or deltas.tokens[-1] != i:
                    deltas.tokens.append(i)
                if deltas.first_text < 0:
                    deltas.first_text = i
            if reason := choice.finish_reason:
                deltas.finish, deltas.finish_reason = i, reason
                if reason in _BROKEN_OFF:
                    note_error(f"the engine broke off the answer (finish_reason {reason})", deltas)
        if (usage := chunk.usage) is not None:
            if usage.completion_tokens is None and usage.prompt_tokens is None:
                usage = usage_of(lenient_json(data[i])["usage"]) or usage  # under other names
            deltas.count(i, usage)
        elif chunk.choices is None and not chunk.error:
            note_odd(data[i], deltas)
        if chunk.error:
            note_error(chunk.error, deltas)
    for first in decode_events(data[:1], _decode_name, deltas, lenient_json):
        name = first.get("model") if isinstance(first, dict) else getattr(first, "model", None)
        deltas.model = name if isinstance(name, str) else ""
    others = _search_other_fields(empty, data, deltas) if empty else {}
    # Don't refer to `deltas` here: only garbage collection could free that cycle.
    tokens = deltas.tokens
    deltas.texts = lambda: _texts_of(tokens, data, others)
    return deltas


def _texts_of(tokens: list[int], data: Sequence[bytes], others: dict[int, Delta]) -> list[str]:
    """The texts of these events. They are decoded again, since keeping all of an answer's decoded
    events takes more memory than the answer.

    others: the deltas of events whose text is in fields of other names
    """
    bearing = set(tokens)
    chunks = decode_events(data, _decode, Deltas(), _lenient_chunk)
    return [
        others[i].text()
        if i in others
        else choices[0].added()
        if (choices := chunk.choices)
        else ""
        for i, chunk in enumerate(chunks)
        if i in bearing
    ]


def _lenient_chunk(data: bytes) -> OpenAIChunk:
    """Decode an event with a part that differs in shape from OpenAI's. Raises ValueError."""
    value = lenient_json(data)
    if value is None:
        return OpenAIChunk()
    if not isinstance(value, dict):
        raise ValueError("the event is not an object")
    choices = value.get("choices")
    if not isinstance(choices, list | None):
        raise ValueError("choices is not a list")
    if choices and not isinstance(choices[0], dict):
        raise ValueError("the choices are not objects")
    if choices:
        text, reason = choices[0].get("text"), choices[0].get("finish_reason")
        delta, message = choices[0].get("delta"), choices[0].get("message")
        if isinstance(reason, dict):
            reason = reason.get("type")
        choice = AnswerChoice(
            delta=None if delta is None else delta_of(delta),
            message=None if message is None else delta_of(message),
            text=None if text is None else delta_of(text).text(),
            finish_reason=None if reason is None else str(reason),
        )
    return OpenAIChunk(
        choices=choices and [choice],
        usage=usage_of(value.get("usage")),
        error=value.get("error"),
    )


def _search_other_fields(
    empty: dict[int, OpenAIChunk], data: Sequence[bytes], deltas: Deltas
) -> dict[int, Delta]:
    """Look for text under other names in deltas without any field that we know.

    empty: these deltas' events, by index

    Returns the deltas that turn out to have text, by the index of their events.

    A field whose name does not tell counts as text if the reported total has room for that many
    more tokens or, without a total, if the fields' texts differ.
    """
    sure, unsure = dict[int, Delta](), dict[int, Delta]()
    opening_index = next(iter(empty))
    for i, chunk in empty.items():
        try:
            raw = bytes(_undecoded(data[i]).choices[0].delta)
        except (ValueError, IndexError):
            raw = b""  # _lenient_chunk decoded it, and found all its text
        delta, by_name = _cached(raw) if len(raw) <= _CACHED else _unknown(raw)
        finish = chunk.choices[0].finish_reason if chunk.choices else None
        opening = i == opening_index and b'"role"' in raw
        if delta.content or delta.reasoning:
            (sure if by_name else unsure)[i] = delta
        elif not finish and not opening and chunk.usage is None:
            deltas.blank += 1
    bearing = len(deltas.tokens) + len(sure) + len(unsure)
    if deltas.usage is not None:
        fits = bearing <= (deltas.usage.completion_tokens or 0)
    else:
        fits = len({delta.text() for delta in unsure.values()}) > 1
    more = sure | unsure if fits else sure
    for i, delta in more.items():
        if delta.content and (deltas.first_text < 0 or i < deltas.first_text):
            deltas.first_text = i
    if more:
        deltas.tokens = sorted([*deltas.tokens, *more])
    return more


def _unknown(raw: bytes) -> tuple[Delta, bool]:
    """The text of a delta, and whether its field's name says that it is text."""
    value = lenient_json(raw) if raw else None
    fields = value if isinstance(value, dict) else {}
    by_name = {n: v for n, v in fields.items() if _TEXT.search(n) or _THOUGHT.search(n)}
    return delta_of(value), bool(delta_of(by_name).text())


# Largest delta to cache, in bytes. Few are different: {} at the end, a role at the start.
_CACHED = 256
_cached = lru_cache(maxsize=64)(_unknown)


def _note_undelta(i: int, choice: AnswerChoice, deltas: Deltas) -> None:
    """Note a choice without a delta: a piece of a completion, or a whole message."""
    if choice.added():
        deltas.tokens.append(i)
        if deltas.first_text < 0:
            deltas.first_text = i
    elif not choice.finish_reason:
        deltas.blank += 1

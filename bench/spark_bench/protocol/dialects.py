"""The endpoints: which requests each takes, and how its responses are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from spark_bench.errors import BadInput
from spark_bench.formats import did_you_mean
from spark_bench.protocol import generate, openai
from spark_bench.protocol.deltas import Deltas
from spark_bench.record import Message, Prompt


class Asking(msgspec.Struct, frozen=True):
    """How to ask, the same for every request of a run.

    model: "" leaves it to the server
    ignore_eos: generate the full length; not sent if false, since not every server accepts it
    include_usage: ask for token counts at the end of the stream
    continuous_usage: ask for them with every event
    temperature: None leaves it to the server
    extra: further fields of the body, over those that are there; objects are merged, and a null
        takes away what is there (RFC 7396)
    length_field: that asks for so many tokens
    answers_as: the name that the server's answers have for this model; "": its own
    """

    model: str
    ignore_eos: bool = True
    include_usage: bool = True
    continuous_usage: bool = False
    temperature: float | None = 0.0
    stream: bool = True
    extra: dict[str, Any] = {}
    length_field: str = "max_tokens"
    answers_as: str = ""


class Dialect(Protocol):
    """One endpoint.

    name: as users give it
    path: of its URL
    """

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...

    def body(self, prompt: Prompt, asking: Asking) -> bytes:
        """A request's JSON; the same input gives the same bytes."""

    def deltas(self, data: list[bytes]) -> Deltas:
        """What the events of an answer say; an answer in one piece is one event."""

    def most_bytes(self, tokens: int) -> int:
        """What an answer of so many tokens may have, a multiple of what servers send; more is no
        such answer."""


# Events of a token have some 300 bytes, and up to 4 KB with the probabilities of twenty others.
_EVENT = 8 * 1024
# Beside the tokens: what a server may tell of the prompt.
_AROUND = 16 * 1024 * 1024
# SGLang's /generate repeats the text and the token ids in each event, some 12 bytes a token.
_REPEATED = 16
_MOST = 1024 * 1024 * 1024


@dataclass(frozen=True)
class _Endpoint:
    """text_field: of the body, for the conversation: "messages", or one text under another name
    fields: makes a body's fields, given `text_field`
    cumulative: each event repeats the text so far
    """

    name: str
    path: str
    text_field: str
    fields: Callable[[Prompt, Asking, str], dict[str, Any]]
    decode: Callable[[list[bytes]], Deltas]
    cumulative: bool = False

    def body(self, prompt: Prompt, asking: Asking) -> bytes:
        return msgspec.json.encode(
            _merged(self.fields(prompt, asking, self.text_field), asking.extra)
        )

    def deltas(self, data: list[bytes]) -> Deltas:
        return self.decode(data)

    def most_bytes(self, tokens: int) -> int:
        repeated = _REPEATED * tokens**2 if self.cumulative else 0
        return min(_AROUND + _EVENT * tokens + repeated, _MOST)


def dialect(name: str) -> Dialect:
    """The endpoint of that name; BadInput with the nearest one if there is none."""
    if endpoint := _ENDPOINTS.get(name):
        return endpoint
    hint = did_you_mean(name, _ENDPOINTS.keys(), most=1, cutoff=0.5)
    raise BadInput(f"endpoint {name!r} is not one of {', '.join(_ENDPOINTS)}{hint}")


def plain_text(messages: tuple[Message, ...]) -> str:
    """A conversation for an endpoint without messages: their contents, line by line."""
    return "\n".join([message.content for message in messages])


def _openai(prompt: Prompt, asking: Asking, text_field: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": asking.model} if asking.model else {}
    if text_field == "messages":
        fields["messages"] = [{"role": m.role, "content": m.content} for m in prompt.messages]
    else:
        fields[text_field] = plain_text(prompt.messages)
    fields[asking.length_field] = prompt.output_tokens
    if asking.temperature is not None:
        fields["temperature"] = asking.temperature
    fields["stream"] = asking.stream
    if asking.stream and asking.include_usage:
        fields["stream_options"] = {"include_usage": True}
        if asking.continuous_usage:
            fields["stream_options"]["continuous_usage_stats"] = True
    if asking.ignore_eos:
        fields["ignore_eos"] = True
    return fields


def _generate(prompt: Prompt, asking: Asking, text_field: str) -> dict[str, Any]:
    sampling: dict[str, Any] = {"max_new_tokens": prompt.output_tokens}
    if asking.temperature is not None:
        sampling["temperature"] = asking.temperature
    if asking.ignore_eos:
        sampling["ignore_eos"] = True
    return {
        text_field: plain_text(prompt.messages),
        "sampling_params": sampling,
        "stream": asking.stream,
    }


def _merged(fields: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The fields under those of `extra`; where both are objects, their fields in turn."""
    merged = dict(fields)
    for key, value in extra.items():
        there = merged.get(key)
        if isinstance(there, dict) and isinstance(value, dict):
            value = _merged(there, value)
        if value is None and key in fields:
            del merged[key]
        else:
            merged[key] = value
    return merged


_CHAT = _Endpoint("chat", "/v1/chat/completions", "messages", _openai, openai.parse_openai_events)
_COMPLETIONS = _Endpoint(
    "completions", "/v1/completions", "prompt", _openai, openai.parse_openai_events
)
_GENERATE = _Endpoint(
    "generate", "/generate", "text", _generate, generate.parse_generate_events, cumulative=True
)
_ENDPOINTS: dict[str, Dialect] = {each.name: each for each in (_CHAT, _COMPLETIONS, _GENERATE)}

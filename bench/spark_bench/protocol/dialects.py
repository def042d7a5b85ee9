"""The endpoints: what requests each one accepts, and how its responses are read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from spark_bench.errors import BadInput
from spark_bench.formats import did_you_mean
from spark_bench.protocol import generate, openai
from spark_bench.protocol.deltas import Deltas
from spark_bench.record import Message, Prompt


class RequestTerms(msgspec.Struct, frozen=True):
    """The terms of a request: what is the same in all of a run.

    model: id to request; "": the server chooses
    ignore_eos: generate the full length; not sent if false, since not every server accepts it
    include_usage: ask for token counts at the end of the stream
    continuous_usage: ask for token counts with each event
    temperature: sampling temperature; None: the server's default
    extra: more fields for the body, merged into it as RFC 7396 says: objects are merged, and null
        removes a field
    length_field: name of the field for the number of tokens to generate
    answers_as: name of the model in the server's answers; "": the same as requested
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
    """One endpoint of a server's API.

    name: the name that users give
    path: path of its URL
    """

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...

    def body(self, prompt: Prompt, terms: RequestTerms) -> bytes:
        """The JSON body of a request; the same input gives the same bytes."""

    def deltas(self, data: Sequence[bytes]) -> Deltas:
        """Parse the events of an answer; an answer in one piece counts as one event."""

    def most_bytes(self, tokens: int) -> int:
        """Limit on the bytes of an answer of this many tokens, a multiple of what servers send."""


# Bytes allowed per event. A token's event has about 300, up to 4 KB with 20 top log probabilities.
_EVENT = 8 * 1024
# Bytes allowed besides the tokens, for what a server may say about the prompt.
_AROUND = 16 * 1024 * 1024
# Bytes allowed per repeated token: SGLang's /generate repeats the text and the token ids in each
# event, about 12 bytes per token.
_REPEATED = 16
_MOST = 1024 * 1024 * 1024


@dataclass(frozen=True)
class _Endpoint:
    """An endpoint, by how its bodies and events differ from others.

    text_field: the body's field for the prompt: "messages", or another name for a single text
    fields: builds the body's fields, given `text_field`
    cumulative: each event repeats the text so far
    """

    name: str
    path: str
    text_field: str
    fields: Callable[[Prompt, RequestTerms, str], dict[str, Any]]
    decode: Callable[[Sequence[bytes]], Deltas]
    cumulative: bool = False

    def body(self, prompt: Prompt, terms: RequestTerms) -> bytes:
        return msgspec.json.encode(
            _merged(self.fields(prompt, terms, self.text_field), terms.extra)
        )

    def deltas(self, data: Sequence[bytes]) -> Deltas:
        return self.decode(data)

    def most_bytes(self, tokens: int) -> int:
        repeated = _REPEATED * tokens**2 if self.cumulative else 0
        return min(_AROUND + _EVENT * tokens + repeated, _MOST)


def dialect(name: str) -> Dialect:
    """The endpoint of this name. Raises BadInput that suggests the nearest if there is none."""
    if endpoint := _ENDPOINTS.get(name):
        return endpoint
    hint = did_you_mean(name, _ENDPOINTS.keys(), most=1, cutoff=0.5)
    raise BadInput(f"endpoint {name!r} is not one of {', '.join(_ENDPOINTS)}{hint}")


def plain_text(messages: tuple[Message, ...]) -> str:
    """A conversation as one text, for endpoints without messages: their contents in lines."""
    return "\n".join([message.content for message in messages])


def _openai(prompt: Prompt, terms: RequestTerms, text_field: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": terms.model} if terms.model else {}
    if text_field == "messages":
        fields["messages"] = [{"role": m.role, "content": m.content} for m in prompt.messages]
    else:
        fields[text_field] = plain_text(prompt.messages)
    fields[terms.length_field] = prompt.output_tokens
    if terms.temperature is not None:
        fields["temperature"] = terms.temperature
    fields["stream"] = terms.stream
    if terms.stream and terms.include_usage:
        fields["stream_options"] = {"include_usage": True}
        if terms.continuous_usage:
            fields["stream_options"]["continuous_usage_stats"] = True
    if terms.ignore_eos:
        fields["ignore_eos"] = True
    return fields


def _generate(prompt: Prompt, terms: RequestTerms, text_field: str) -> dict[str, Any]:
    sampling: dict[str, Any] = {"max_new_tokens": prompt.output_tokens}
    if terms.temperature is not None:
        sampling["temperature"] = terms.temperature
    if terms.ignore_eos:
        sampling["ignore_eos"] = True
    return {
        text_field: plain_text(prompt.messages),
        "sampling_params": sampling,
        "stream": terms.stream,
    }


def _merged(fields: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `extra` into the fields (RFC 7396); see RequestTerms."""
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

"""What a probe sends to the head's engine, what came back, and the answer in it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

CHAT = "/v1/chat/completions"
PLAIN = "/v1/completions"
METRICS = "/metrics"
# Bytes that are kept of one reply, all its events together. The longest answer, 128 tokens in 128
# events, takes about 60 kB; /metrics of SGLang 0.5.23 about 90 kB.
MOST_BYTES = 512 * 1024
# `why` of a reply that did not come before the probes' common deadline.
DEADLINE = "deadline"


@dataclass(frozen=True)
class ProbeRequest:
    """One HTTP request to the head's engine.

    + id: names the request among all of a probing
    + body: the JSON object to POST, its "model" in it; None: a GET
    + stream: the answer comes as server-sent events
    """

    id: str
    path: str
    body: Mapping[str, Any] | None = field(default=None, hash=False)
    stream: bool = False


@dataclass(frozen=True)
class Round:
    """Requests that are sent one after the other, or all at once."""

    requests: tuple[ProbeRequest, ...]
    together: bool = False


@dataclass(frozen=True)
class ProbeReply:
    """What came in reply to one request. All of it is hostile until it is parsed.

    + status: the HTTP status; 0: no answer
    + body: of a reply that was not streamed, or of a refusal, cut at MOST_BYTES
    + events: the payloads after `data: `, in order, together cut at MOST_BYTES; [DONE] may be there
    + seconds: until the last byte
    + why: why nothing or not all came: DEADLINE, or the error of the connection; "" if all came
    """

    id: str
    status: int
    body: str = ""
    events: tuple[str, ...] = ()
    seconds: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool; arguments: the text as sent, which should be a JSON object."""

    name: str
    arguments: str


# How thoughts begin and end in a content that nobody parses.
OPENING, CLOSING = ("<think>", "[THINK]", "<|channel|>analysis"), ("</think>", "[/THINK]", "final")
Trouble = Literal["", "refused", "late", "broken"]


@dataclass(frozen=True)
class Answer:
    """The model's answer, as one reply has it.

    + content, reasoning: "" where there is none
    + finish: "stop", "length", "tool_calls"; "" where it is not stated
    + logprobs: natural logarithms of the tokens' probabilities, the prompt's included if requested;
      NaN where the engine gives none
    + trouble: why there is no answer: the server refused the request, did not answer it in time, or
      sent something that is no answer; "" if there is one; problem: the same for people
    """

    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: str = ""
    logprobs: tuple[float, ...] = ()
    trouble: Trouble = ""
    problem: str = ""

    @property
    def text(self) -> str:
        """Thoughts and content."""
        return self.reasoning + self.content

    @property
    def unfinished(self) -> bool:
        """The limit of tokens ended its thoughts before it said anything: those in their own field,
        or in the content of an engine without a parser for them."""
        inner = self.content.lstrip()
        thinks = inner.startswith(OPENING) and not any(tag in inner for tag in CLOSING)
        return self.finish == "length" and (thinks or (bool(self.reasoning) and not inner))


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    index: int | None = 0
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Logprobs(msgspec.Struct):
    token_logprobs: list[float | None] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice]


def read_answer(reply: ProbeReply) -> Answer:
    """The answer in a reply, never an error: `trouble` says what is wrong with the reply."""
    if reply.why:
        what = "breaks off" if reply.status else "gets no answer"
        trouble: Trouble = "late" if reply.why == DEADLINE else "broken"
        return Answer(trouble=trouble, problem=f"{what} ({reply.why})")
    if reply.status != 200:
        trouble = "refused" if 400 <= reply.status < 500 else "broken"
        return Answer(trouble=trouble, problem=f"is answered {reply.status}: {reply.body[:200]}")
    texts = [event for event in reply.events if event.strip() != "[DONE]"] or [reply.body]
    try:
        # Python's own reader takes half a surrogate pair, which is a finding of its own.
        bodies = [msgspec.convert(json.loads(text), type=_Body) for text in texts]
    except (ValueError, RecursionError, msgspec.ValidationError) as e:
        return Answer(trouble="broken", problem=f"is answered by what is no completion: {e}")
    choices = [choice for body in bodies for choice in body.choices[:1]]
    if not choices:
        return Answer(trouble="broken", problem="is answered by a completion without a choice")
    return _joined(choices)


def _joined(choices: Sequence[_Choice]) -> Answer:
    """The parts of a streamed answer, or the one part of a whole one, as an answer."""
    content, reasoning, finish = "", "", ""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    logprobs: list[float] = []
    for choice in choices:
        part = choice.message or choice.delta or _Message()
        words, thought = part.content or choice.text or "", part.reasoning_content or part.reasoning
        content, reasoning = content + words, reasoning + (thought or "")
        finish = choice.finish_reason or finish
        for place, call in enumerate(part.tool_calls or ()):
            function, index = call.function or _Function(), call.index or 0
            index = place if choice.message else index
            names[index] = names.get(index, "") + (function.name or "")
            given = function.arguments or ""
            given = given if isinstance(given, str) else json.dumps(given)
            arguments[index] = arguments.get(index, "") + given
        if choice.logprobs:
            # The first token has none; JSON has no NaN, so it comes as null.
            listed = choice.logprobs.token_logprobs or []
            numbers = [math.nan if x is None else x for x in listed]
            logprobs += numbers if listed[:1] != [None] else numbers[1:]
    return Answer(
        content=content,
        reasoning=reasoning,
        calls=tuple(ToolCall(names[index], arguments[index]) for index in sorted(names)),
        finish=finish,
        logprobs=tuple(logprobs),
    )

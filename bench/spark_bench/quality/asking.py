"""The requests of items, and the message in a response."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from spark_bench import record
from spark_bench.client.target import Envelope
from spark_bench.load import arrivals
from spark_bench.protocol import content, openai, reading
from spark_bench.protocol.deltas import lenient_json
from spark_bench.protocol.dialects import RequestTerms, dialect
from spark_bench.protocol.failures import Failure
from spark_bench.quality.grading import grade
from spark_bench.quality.harness import GIVEN_UP, HarnessLine
from spark_bench.quality.items import QualityItem
from spark_bench.results import redact
from spark_bench.results.quality_schema import AnsweredCall, AnsweredItem, QualityProtocol
from spark_bench.run.reach import ReachedServer

# Most characters of an answer, and of the arguments of a call, that a result keeps.
KEPT = 16 * 1024
# Most calls of an answer that are read; a model that makes more runs in a circle.
MOST_CALLS = 64
# Names by which chat templates switch thinking: Qwen's and GLM's, DeepSeek's and Granite's.
# Templates ignore those that they don't know.
SWITCHES = ("enable_thinking", "thinking")
# Tokens that are left for the chat template when an answer is fitted into the context.
TEMPLATE = 256
FEWEST_TOKENS = 16
# Fields with which SGLang, llama.cpp and vLLM send the tokens that they generated. llama.cpp sends
# none if no alternatives are requested.
TOKEN_FIELDS: dict[str, dict[str, Any]] = {
    "chat": {"logprobs": True, "top_logprobs": 1},
    "completions": {"logprobs": 1},
}
# Most tokens of an answer that a result keeps, of at most KEPT characters together: as many as the
# longest answers that our own tasks allow.
KEPT_TOKENS = 2048


class ItemAsker:
    """Builds the requests of items for one server, and reads its responses.

    keep_answers: whether the answered items have their answers
    """

    def __init__(
        self,
        server: ReachedServer,
        protocol: QualityProtocol,
        extra: dict[str, Any],
        keep_answers: bool,
    ) -> None:
        """extra: fields that the user added to each request, as they are sent"""
        self._server, self._protocol, self._keep = server, protocol, keep_answers
        self._api = dialect(protocol.endpoint)
        request = server.http.build_request("POST", self._api.path)
        self._envelope = Envelope(request, server.recorder.target)
        switches: dict[str, Any] = {}
        if protocol.thinking != "default":
            on = protocol.thinking == "on"
            switches = {"chat_template_kwargs": dict.fromkeys(SWITCHES, on)}
        self._asking = RequestTerms(
            model=server.model,
            ignore_eos=False,
            temperature=protocol.temperature,
            stream=False,
            extra={**switches, **extra},
        )

    def request_tokens(self, item: QualityItem) -> None:
        """Request the generated tokens with each answer, if the server sends them for an item.

        A trial request for one token of its answer shows that.
        """
        before = self._asking
        fields = TOKEN_FIELDS[self._protocol.endpoint]
        self._asking = replace(before, extra={**fields, **before.extra})
        job = self._job(0, item, most=1)
        exchange = self._server.recorder.exchange(
            job.wire, self._protocol.timeout, self._api.most_bytes(1)
        )
        parsed = content.parse_response(exchange)
        if parsed.body is None or not read_message(parsed.body).tokens:
            self._asking = before

    def load(self, items: Sequence[QualityItem], concurrency: int) -> record.Load:
        """The requests of these items, as many in flight as allowed."""
        jobs = [self._job(index, item) for index, item in enumerate(items)]
        return record.Load(
            jobs,
            arrivals.steps(concurrency),
            self._protocol.timeout,
            most_bytes=self._api.most_bytes(self._protocol.max_tokens),
        )

    def _job(self, index: int, item: QualityItem, most: int = 0) -> record.Job:
        """The request of an item. most: tokens of its answer; 0: as the protocol has it"""
        messages = tuple(record.Message(m.role, m.content) for m in item.messages)
        most = most or self._protocol.max_tokens
        if self._server.context and most > 1:
            # Engines refuse a request whose answer may not fit. A token of most texts has 3 bytes
            # or more.
            size = sum(len(m.content.encode()) for m in messages)
            tokens = size // 3 if item.tokens is None else item.tokens
            room = self._server.context - TEMPLATE - tokens
            most = max(FEWEST_TOKENS, min(most, room))
        prompt = record.Prompt(messages, None, most)
        asking = replace(self._asking, extra={**item.fields, **self._asking.extra})
        wire = self._envelope(self._api.body(prompt, asking))
        return record.Job(index, wire, record.Timing(), record.Prompt((), None, most))

    def read(self, exchange: record.Exchange, job: record.Job, item: QualityItem) -> AnsweredItem:
        """The item with its answer, graded, or with the failure of its request."""
        request = reading.read_exchange(
            exchange, job, self._api, self._asking, usage_expected=False
        )
        answered = AnsweredItem(
            id=item.id,
            group=item.group,
            prompt_sha256=item.prompt_sha256,
            expected=expected_text(item.expected),
            seconds=round((exchange.ended_ns - exchange.sent_ns) / 1e9, 3),
        )
        # An answer without any token is empty, which is an answer.
        if request.failure and request.failure != Failure.NO_TOKENS:
            detail = self._server.hidden(request.detail)
            return replace(answered, failure=request.failure, detail=detail)
        parsed = content.parse_response(exchange)
        if parsed.body is None:
            detail = "events of a stream, though none was requested"
            return replace(answered, failure=Failure.MALFORMED_JSON, detail=detail)
        message = read_message(parsed.body)
        graded = grade(item, message.text, message.calls)
        text = self._clean(message.text)
        pairs = [(self._clean(call.name), self._clean(call.arguments)) for call in message.calls]
        return replace(
            answered,
            answer=text[:KEPT] if self._keep else None,
            cut=len(text) > KEPT,
            calls=tuple(
                AnsweredCall(name=name[:KEPT], arguments=arguments[:KEPT])
                for name, arguments in (pairs if self._keep else ())
            ),
            thoughts=message.thoughts,
            finish_reason=request.finish_reason,
            tokens=self._kept_tokens(message.tokens),
            empty=not message.text.strip() and not message.calls,
            read=None if graded.read is None else self._clean(graded.read)[:KEPT],
            right=graded.right,
            prompt_tokens=request.prompt_tokens if request.usage else None,
            output_tokens=request.output_tokens if request.usage else None,
        )

    def _kept_tokens(self, tokens: Sequence[str]) -> tuple[str, ...] | UnsetType:
        """The tokens with secrets hidden; none if a secret goes over several of them."""
        cleaned = tuple(map(self._clean, tokens))
        whole = self._clean("".join(tokens)) == "".join(cleaned)
        return cleaned if self._keep and cleaned and whole else UNSET

    def _clean(self, text: str) -> str:
        return redact.clean_text(self._server.hidden(text))


def read_harness_line(
    line: HarnessLine, item: QualityItem, server: ReachedServer, keep_answer: bool
) -> AnsweredItem:
    """An item that SGLang's harness sent and graded."""
    answered = AnsweredItem(
        id=item.id, group=item.group, prompt_sha256=item.prompt_sha256, expected=str(item.expected)
    )
    if line.finish_reason == "error":
        detail = "sgl-eval got no answer, even after its retries"
        return replace(answered, failure=GIVEN_UP, detail=detail)
    text = redact.clean_text(server.hidden(line.generation or ""))
    read = None if line.predicted_answer is None else str(line.predicted_answer)
    began, ended = line.generation_start_time or 0.0, line.generation_end_time or 0.0
    return replace(
        answered,
        answer=text[:KEPT] if keep_answer else None,
        cut=len(text) > KEPT,
        thoughts=len(line.reasoning_content or ""),
        finish_reason=line.finish_reason or "",
        empty=not text.strip(),
        read=read and redact.clean_text(server.hidden(read))[:KEPT],
        right=line.symbolic_correct,
        output_tokens=line.num_generated_tokens,
        seconds=round(max(0.0, ended - began), 3),
    )


class ReadMessage(Struct, frozen=True):
    """The message of a response.

    text: the answer, without thoughts that came in a field of their own
    thoughts: how many characters those have
    calls: its tool calls, at most MOST_CALLS
    tokens: the first tokens that were generated, as text; empty: the server sent none
    """

    text: str = ""
    thoughts: int = 0
    calls: tuple[AnsweredCall, ...] = ()
    tokens: tuple[str, ...] = ()


def read_message(body: bytes) -> ReadMessage:
    """Read the first choice of a response in one piece, in any server's shape."""
    try:
        document = lenient_json(body)
    except (ValueError, RecursionError):
        return ReadMessage()
    choices = document.get("choices") if isinstance(document, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return ReadMessage()
    message, tokens = choice.get("message"), tuple(_read_tokens(choice.get("logprobs")))
    if not isinstance(message, dict):
        return ReadMessage(openai.delta_of(choice.get("text")).text(), tokens=tokens)
    calls = message.get("tool_calls")
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    delta = openai.delta_of(rest)
    listed = calls[:MOST_CALLS] if isinstance(calls, list) else []
    return ReadMessage(
        delta.content or "",
        len(delta.reasoning or ""),
        tuple(call for each in listed if (call := _call(each))),
        tokens,
    )


def _read_tokens(logprobs: Any) -> Iterator[str]:
    """Yield the tokens of a choice's log probabilities, in either of OpenAI's shapes, until one
    can't be read or they are more than a result keeps."""
    fields = logprobs if isinstance(logprobs, dict) else {}
    listed = fields.get("content", fields.get("tokens"))
    room = KEPT
    for each in listed[:KEPT_TOKENS] if isinstance(listed, list) else ():
        token, data = each, None
        if isinstance(each, dict):
            token, data = each.get("token"), each.get("bytes")
        if isinstance(data, list):
            # A token may be a part of a character, which only its bytes show.
            with suppress(ValueError, TypeError):
                token = bytes(data).decode("utf-8", "backslashreplace")
        if not isinstance(token, str) or (room := room - len(token)) < 0:
            return
        yield token.encode("utf-8", "replace").decode()


def _call(value: Any) -> AnsweredCall | None:
    """A tool call; None if it has no name. Arguments that are no text become JSON."""
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
        return None
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else msgspec.json.encode(arguments).decode()
    return AnsweredCall(
        name=name.encode("utf-8", "replace").decode(),
        arguments=arguments.encode("utf-8", "replace").decode(),
    )


def expected_text(expected: Any) -> str:
    """A right answer as text: as it is, or as JSON."""
    return expected if isinstance(expected, str) else msgspec.json.encode(expected).decode()

"""One request to the faulty server, and the pieces that its answers are made of."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MODEL = "faulty-model"
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
STREAM_HEAD = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Call:
    """A request as it came; path is without the prefix that named the behavior.

    pace: seconds between two events of a stream
    """

    connection: socket.socket
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    pace: float = 0.001

    @property
    def json(self) -> dict[str, Any]:
        """The body; {} where it is none."""
        body: dict[str, Any] = json.loads(self.body) if self.body else {}
        return body

    @property
    def tokens(self) -> int:
        """The length asked for, 8 by default."""
        return int(self.json.get("max_completion_tokens") or self.json.get("max_tokens") or 8)

    @property
    def model(self) -> str:
        return str(self.json.get("model") or MODEL)

    @property
    def wants_usage(self) -> bool:
        return bool((self.json.get("stream_options") or {}).get("include_usage"))

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def send_head(
        self, headers: Mapping[str, str], status: str = "200 OK", version: str = "HTTP/1.1"
    ) -> None:
        lines = [f"{version} {status}", *(f"{key}: {value}" for key, value in headers.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send_json(
        self, answer: Any, status: str = "200 OK", headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps(answer).encode()
        shape = {"content-type": "application/json", "content-length": str(len(body))}
        self.send_head({**shape, **(headers or {})}, status)
        self.send(body)

    def send_error(self, status: str, message: str, **headers: str) -> None:
        """An error as OpenAI's API has them; header names with _ for -."""
        code = int(status.split()[0])
        kind = status.split(maxsplit=1)[1].replace(" ", "")
        error = {"message": message, "type": kind, "param": None, "code": code}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.send_json({"error": error}, status, names)

    def send_chunks(self, events: Iterable[bytes]) -> None:
        """Each event as one HTTP chunk; the last chunk is not sent."""
        for event in events:
            self.send(chunk(event))
            time.sleep(self.pace)


def chunk(data: bytes) -> bytes:
    """As chunked transfer encoding has it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(data: Any) -> bytes:
    """As server-sent events have it."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def word(index: int) -> str:
    """The text of one token: w1, w2, ..."""
    return f" w{index + 1}" if index else "w1"


def text(count: int) -> str:
    """Of an answer of so many tokens."""
    return "".join(map(word, range(count)))


def usage(call: Call) -> dict[str, int]:
    """Words are tokens."""
    messages = call.json.get("messages") or [{"content": call.json.get("prompt", "")}]
    prompt = sum(len(str(message.get("content")).split()) for message in messages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": call.tokens,
        "total_tokens": prompt + call.tokens,
    }


def envelope(call: Call, model: str | None = None) -> dict[str, Any]:
    """What every object of an answer has."""
    kind = "chat.completion.chunk" if call.path == CHAT else "text_completion"
    return {"id": "faulty-1", "object": kind, "created": 1, "model": model or call.model}


def token(call: Call, index: int, model: str | None = None) -> bytes:
    """The event that brings one token."""
    part = {"delta": {"content": word(index)}} if call.path == CHAT else {"text": word(index)}
    choice = {"index": 0, **part, "finish_reason": None}
    return event({**envelope(call, model), "choices": [choice]})


def tokens(call: Call, model: str | None = None) -> list[bytes]:
    """The role, where the API has one, and each token."""
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    first = [event({**envelope(call, model), "choices": [role]})] if call.path == CHAT else []
    return [*first, *(token(call, index, model) for index in range(call.tokens))]


def finish(call: Call, model: str | None = None) -> bytes:
    """The event with the finish_reason."""
    part: dict[str, Any] = {"delta": {}} if call.path == CHAT else {"text": ""}
    choice = {"index": 0, **part, "finish_reason": "length"}
    return event({**envelope(call, model), "choices": [choice]})


def usage_event(call: Call, model: str | None = None) -> list[bytes]:
    """The event with the counts, if it was asked for."""
    counts = {**envelope(call, model), "choices": [], "usage": usage(call)}
    return [event(counts)] if call.wants_usage else []


def whole_stream(call: Call, model: str | None = None) -> list[bytes]:
    """All events of a good answer, [DONE] included."""
    return [*tokens(call, model), finish(call, model), *usage_event(call, model), DONE]


def whole_answer(call: Call) -> dict[str, Any]:
    """A good answer in one piece."""
    answer = text(call.tokens)
    message = {"role": "assistant", "content": answer}
    part = {"message": message} if call.path == CHAT else {"text": answer}
    choice = {"index": 0, **part, "finish_reason": "length"}
    kind = "chat.completion" if call.path == CHAT else "text_completion"
    return {**envelope(call), "object": kind, "choices": [choice], "usage": usage(call)}

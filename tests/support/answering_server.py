"""An OpenAI-compatible server whose answers a test decides, for `spark-bench quality`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from http_engine import FakeEngine, listening

MODEL = "the-model"
# What answers a request's body: a message's fields, or an HTTP status.
Answer = Callable[[dict[str, Any]], dict[str, Any] | int]


@dataclass
class Answering:
    """A running server. `hold` delays every answer.

    asked: the bodies of all requests so far, but for refused ones
    tokens: the tokens of an answer's text, as the API has them; None: requests for them are refused
    """

    url: str = ""
    answer: Answer = lambda _: {"content": "?"}
    asked: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event | None = None
    held_after: int = 0
    context: int = 8192
    model: str = MODEL
    tokens: Callable[[str], dict[str, Any]] | None = None


def question(body: dict[str, Any]) -> str:
    """The text that a request asks."""
    if "prompt" in body:
        return str(body["prompt"])
    return "\n".join(message["content"] for message in body["messages"])


@contextmanager
def answering(answer: Answer, **options: Any) -> Iterator[Answering]:
    """A server on loopback that answers as configured."""
    state = Answering(answer=answer, **options)

    class Engine(FakeEngine):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            entry = {"id": state.model, "object": "model", "max_model_len": state.context}
            if self.path == "/v1/models":
                self.say(200, json.dumps({"object": "list", "data": [entry]}))
            else:
                self.say(404, "{}")

        def do_POST(self) -> None:
            body = json.loads(self.requested_with())
            if "logprobs" in body and state.tokens is None:
                self.say(400, json.dumps({"error": {"message": "logprobs is not supported"}}))
                return
            state.asked.append(body)
            if state.hold and len(state.asked) > state.held_after:
                state.hold.wait(60)
            reply = state.answer(body)
            if isinstance(reply, int):
                self.say(reply, json.dumps({"error": {"message": f"status {reply} as told"}}))
                return
            fields = dict(reply)
            choice: dict[str, Any] = {
                "index": 0,
                "finish_reason": fields.pop("finish_reason", "stop"),
            }
            if "prompt" in body:
                choice["text"] = fields.get("content") or ""
            else:
                choice["message"] = {"role": "assistant", **fields}
            if state.tokens and "logprobs" in body:
                choice["logprobs"] = state.tokens(fields.get("content") or "")
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            document = {"model": state.model, "choices": [choice], "usage": usage}
            self.say(200, json.dumps(document))

    with listening(Engine) as url:
        state.url = url
        try:
            yield state
        finally:
            if state.hold:
                state.hold.set()

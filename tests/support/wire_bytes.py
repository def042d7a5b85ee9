"""Builds the bytes of responses, and exchanges that received them in pieces."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import msgspec
from spark_bench.record import Ended, Exchange, Job, Message, Prompt, Timing

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = (
    OK + b"server: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"

# sglang 0.5.23: a role first, two tokens that made one half character, finish_reason and usage in
# events of their own.
SGLANG_CHAT = """\
data: {"id":"6d25","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null,"role":"assistant","content":""},"logprobs":null,"finish_reason":null,"matched_stop":null}]}

data: {"id":"6d25","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null,"content":" K"},"logprobs":null,"finish_reason":null,"matched_stop":null}]}

data: {"id":"6d25","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null,"content":"� K"},"logprobs":null,"finish_reason":null,"matched_stop":null}]}

data: {"id":"6d25","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null,"content":"�"},"logprobs":null,"finish_reason":null,"matched_stop":null}]}

data: {"id":"6d25","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null},"logprobs":null,"finish_reason":"length","matched_stop":null}]}

data: {"id":"6d25","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[],"usage":{"prompt_tokens":17,"total_tokens":21,"completion_tokens":4,"prompt_tokens_details":null,"reasoning_tokens":0,"completion_tokens_details":null}}

data: [DONE]

"""  # noqa: E501

# The same with continuous_usage_stats; " K" and a half character, each one token.
SGLANG_CONTINUOUS = """\
data: {"id":"9402","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null,"role":"assistant","content":""},"logprobs":null,"finish_reason":null,"matched_stop":null}]}

data: {"id":"9402","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null,"content":" K"},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":{"prompt_tokens":17,"total_tokens":18,"completion_tokens":1,"prompt_tokens_details":null,"reasoning_tokens":0,"completion_tokens_details":null}}

data: {"id":"9402","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null,"content":"�"},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":{"prompt_tokens":17,"total_tokens":19,"completion_tokens":2,"prompt_tokens_details":null,"reasoning_tokens":0,"completion_tokens_details":null}}

data: {"id":"9402","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"delta":{"reasoning_content":null},"logprobs":null,"finish_reason":"length","matched_stop":null}]}

data: {"id":"9402","object":"chat.completion.chunk","created":1795418636,"model":"tiny-qwen2","choices":[],"usage":{"prompt_tokens":17,"total_tokens":19,"completion_tokens":2,"prompt_tokens_details":null,"reasoning_tokens":0,"completion_tokens_details":null}}

data: [DONE]

"""  # noqa: E501

SGLANG_COMPLETIONS = """\
data: {"id":"1f76","object":"text_completion","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"text":"lear","logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"1f76","object":"text_completion","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"text":"ne","logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"1f76","object":"text_completion","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"text":" them","logprobs":null,"finish_reason":"length","matched_stop":null}],"usage":null}

data: {"id":"1f76","object":"text_completion","created":1795418636,"model":"tiny-qwen2","choices":[],"usage":{"prompt_tokens":4,"total_tokens":7,"completion_tokens":3,"reasoning_tokens":0}}

data: [DONE]

"""  # noqa: E501

# A whole chat of the same server, not streamed.
SGLANG_WHOLE = """\
{"id":"af10","object":"chat.completion","created":1795418636,"model":"tiny-qwen2","choices":[{"index":0,"message":{"role":"assistant","content":" K� K�","reasoning_content":null},"logprobs":null,"finish_reason":"length","matched_stop":null}],"usage":{"prompt_tokens":17,"total_tokens":21,"completion_tokens":4,"prompt_tokens_details":null,"reasoning_tokens":0,"completion_tokens_details":null}}"""  # noqa: E501


def chunk(content: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(content), content)


def event(payload: Any) -> bytes:
    """One event, LF line ends."""
    return b"data: " + msgspec.json.encode(payload) + b"\n\n"


def delta(**fields: Any) -> dict[str, Any]:
    """A chat's event; `finish` is its finish_reason, `usage` the tokens generated so far."""
    finish, usage = fields.pop("finish", None), fields.pop("usage", None)
    payload = {
        "id": "1",
        "model": "m",
        "choices": [{"index": 0, "delta": fields, "finish_reason": finish}],
    }
    return payload if usage is None else payload | {"usage": tokens(usage)}


def tokens(completion: int, prompt: int = 17) -> dict[str, Any]:
    """A usage object."""
    return {"prompt_tokens": prompt, "completion_tokens": completion}


def usage(completion: int, **more: Any) -> dict[str, Any]:
    """The usage event at a stream's end."""
    return {"id": "1", "model": "m", "choices": [], "usage": tokens(completion) | more}


def events(text: str) -> list[bytes]:
    """The events of a sample, each with its blank line."""
    return [each.encode() + b"\n\n" for each in text.removesuffix("\n\n").split("\n\n")]


def chunked(pieces: Iterable[bytes], head: bytes = CHUNKED) -> list[bytes]:
    """A response: its head, one chunk for each piece, the last chunk."""
    return [head, *map(chunk, pieces), LAST_CHUNK]


def sized(body: bytes, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    """A response with a content-length."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def exchange(reads: Sequence[bytes], ended: Ended = Ended.COMPLETE, **more: Any) -> Exchange:
    """An exchange that got these reads, the i-th of them at 1000 * (i + 1) ns."""
    stamps = array("q", [1000 * (i + 1) for i in range(len(reads))])
    ends = array("q", accumulate(map(len, reads)))
    return Exchange(7, 10, 20, 0, ended, stamps=stamps, ends=ends, data=b"".join(reads), **more)


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The data cut at these offsets, empty pieces left out."""
    at = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(at) if a < b]


def job(output: int = 4) -> Job:
    """A request for so many tokens."""
    prompt = Prompt((Message("user", "why"),), 17, output, conversation=3, turn=2)
    return Job(7, b"", Timing(), prompt)

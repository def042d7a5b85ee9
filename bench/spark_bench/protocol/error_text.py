"""A server's error message, in one line."""

import re
from typing import Any

import msgspec

from spark_bench.printable import printable

# Limit in bytes: a larger body is not an error message, and decoding takes several times its size.
LARGEST = 1024 * 1024
# Most characters to show: enough for any first sentence, while some servers send whole tracebacks.
LONGEST = 200
# Keys that hold the message, or an object with the message.
_INNER = ("error", "errors", "message", "detail", "msg")
_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def from_body(body: bytes) -> str:
    """The message in an error's body: in any server's JSON, a web page's title, or plain text.

    Returns at most LONGEST characters; "" for an empty body.
    """
    try:
        decoded = msgspec.json.decode(body if len(body) <= LARGEST else b"")
    except (ValueError, RecursionError):
        text = body[: 16 * 1024].decode("utf-8", "replace")
        title = _TITLE.search(text)
        return one_line(title[1] if title else text)
    return from_json(decoded)


def from_json(decoded: Any) -> str:
    """The message in a decoded error.

    Shapes: {"error": {"message": ...}} (OpenAI, SGLang, llama.cpp), {"object": "error", "message":
    ...} (SGLang, vLLM), {"detail": ...} (FastAPI), or a string.
    """
    message, code = decoded, None
    while isinstance(message, dict):
        code = message.get("code") or code
        inner = next(filter(None, map(message.get, _INNER)), None)
        if inner is None:
            break
        message = inner
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    # OpenAI's codes are words, such as model_not_found; other servers repeat the status.
    return one_line(f"{text} ({code})" if isinstance(code, str) else text)


def is_error(decoded: Any) -> bool:
    """Whether a decoded answer is an error in one of these shapes."""
    if not isinstance(decoded, dict):
        return False
    code = decoded.get("code")  # an HTTP status; 200 occurs in an event that says "connected"
    return bool(
        decoded.get("error")
        or decoded.get("errors")
        or "error" in (decoded.get("object"), decoded.get("type"), decoded.get("status"))
        or decoded.get("success") is False
        or ("message" in decoded and isinstance(code, int) and 400 <= code < 600)
        or ("detail" in decoded and len(decoded) == 1)
    )


def one_line(text: str) -> str:
    """The text made printable, with single spaces, and cut to LONGEST characters."""
    text = " ".join(printable(text).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"

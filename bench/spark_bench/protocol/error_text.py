"""What a server says about an error, in one line."""

import re
from typing import Any

import msgspec

from spark_bench.printable import printable

# A larger body is no error message, and its objects would take a multiple of its size.
LARGEST = 1024 * 1024
# Enough for any server's first sentence; some send whole tracebacks.
LONGEST = 200
# Where the message, or what holds it, is in a decoded error.
_INNER = ("error", "errors", "message", "detail", "msg")
_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def from_body(body: bytes) -> str:
    """The message in an error's body: JSON of any server, the title of a web page, or plain text;
    at most LONGEST characters, "" for an empty one."""
    try:
        decoded = msgspec.json.decode(body if len(body) <= LARGEST else b"")
    except (ValueError, RecursionError):
        text = body[: 16 * 1024].decode("utf-8", "replace")
        title = _TITLE.search(text)
        return one_line(title[1] if title else text)
    return from_json(decoded)


def from_json(decoded: Any) -> str:
    """The message in a decoded error: {"error": {"message": ...}} (OpenAI, SGLang, llama.cpp),
    {"object": "error", "message": ...} (SGLang, vLLM), {"detail": ...} (FastAPI) or a string."""
    message, code = decoded, None
    while isinstance(message, dict):
        code = message.get("code") or code
        inner = next(filter(None, map(message.get, _INNER)), None)
        if inner is None:
            break
        message = inner
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    # OpenAI's codes are words, such as model_not_found; others repeat the status.
    return one_line(f"{text} ({code})" if isinstance(code, str) else text)


def is_error(decoded: Any) -> bool:
    """Whether a decoded answer is an error in one of these shapes."""
    if not isinstance(decoded, dict):
        return False
    code = decoded.get("code")  # an HTTP status; 200 is of an event that says "connected"
    return bool(
        decoded.get("error")
        or decoded.get("errors")
        or "error" in (decoded.get("object"), decoded.get("type"), decoded.get("status"))
        or decoded.get("success") is False
        or ("message" in decoded and isinstance(code, int) and 400 <= code < 600)
        or ("detail" in decoded and len(decoded) == 1)
    )


def one_line(text: str) -> str:
    """The text with single spaces, printable, at most LONGEST characters."""
    text = " ".join(printable(text).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"

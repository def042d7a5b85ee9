"""What the faulty server can be asked to do, by name.

Errors, raw bytes, and streams that differ in their events alone are tables; the rest are functions
named after what they do. A behavior answers one request and tells whether the connection stays
open.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
from collections.abc import Callable
from functools import partial

from faulty_call import (
    DONE,
    LAST_CHUNK,
    MODEL,
    STREAM_HEAD,
    Call,
    chunk,
    event,
    finish,
    tokens,
    usage_event,
    whole_answer,
    whole_stream,
)

OPEN, CLOSE = True, False
KEY = "the-right-key"
WRONG_MODEL = "another-model"
IDLE_SECONDS = 0.05
"""How long `closes_idle` leaves a connection open."""

Behavior = Callable[[Call], bool]

STREAMS: dict[str, Behavior] = {}
"""Behaviors of streamed answers; anything else that is asked is answered well."""

ALWAYS: dict[str, Behavior] = {}
"""Behaviors of every answer to a chat or completions request."""

EVERYWHERE: dict[str, Behavior] = {}
"""Behaviors of every answer, /v1/models included."""


def behavior(scope: dict[str, Behavior]) -> Callable[[Behavior], Behavior]:
    """Enter a function into one of these."""

    def enter(function: Behavior) -> Behavior:
        scope[function.__name__] = function
        return function

    return enter


# ---- errors ------------------------------------------------------------------------------------

# Status, message, further headers.
ERRORS: dict[str, tuple[str, str, dict[str, str]]] = {
    "unauthorized": ("401 Unauthorized", "Incorrect API key provided", {}),
    "not_found": ("404 Not Found", "Not Found", {}),
    "no_such_model": ("404 Not Found", f"The model '{MODEL}' does not exist", {}),
    "rate_limited": ("429 Too Many Requests", "Rate limit reached", {"retry_after": "1"}),
    "server_error": ("500 Internal Server Error", "out of memory", {}),
    "unavailable": ("503 Service Unavailable", "the server is loading the model", {}),
}

# Whole answers as bytes: of a proxy in between (HTML, no JSON), and of what is no HTTP.
RAW = {
    "bad_gateway": b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\n"
    b"connection: close\r\n\r\n"
    b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    "not_http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "closes_unanswered": b"",
}


def refuse(name: str, call: Call) -> bool:
    status, message, headers = ERRORS[name]
    call.send_error(status, message, **headers)
    return OPEN


def send_raw(name: str, call: Call) -> bool:
    call.send(RAW[name])
    return CLOSE


for each in ERRORS:
    scope = EVERYWHERE if each in ("unauthorized", "not_found") else ALWAYS
    scope[each] = partial(refuse, each)
ALWAYS |= {each: partial(send_raw, each) for each in RAW}


@behavior(EVERYWHERE)
def needs_key(call: Call) -> bool:
    """401 unless the request bears KEY."""
    if call.headers.get("authorization") == f"Bearer {KEY}":
        return well(call)
    call.send_error("401 Unauthorized", "Unauthorized")
    return OPEN


@behavior(ALWAYS)
def refuses_unknown_fields(call: Call) -> bool:
    """400 for ignore_eos and stream_options, as transformers serve."""
    unknown = sorted({"ignore_eos", "stream_options"} & set(call.json))
    if not unknown:
        return well(call)
    call.send_error("400 Bad Request", f"Unexpected keys in the request: {', '.join(unknown)}")
    return OPEN


# ---- streams that differ in their events alone -------------------------------------------------


def comments(call: Call) -> list[bytes]:
    noise = b": ping\n\n"
    named = [
        b"event: message\nid: 1\n" + piece.replace(b"data: ", b"data:", 1)
        for piece in whole_stream(call)
    ]
    return [noise, *(part for piece in named for part in (piece, noise))]


def malformed_json(call: Call) -> list[bytes]:
    events = whole_stream(call)
    events[len(events) // 2] = b'data: {"choices": [{"delta": {"conte\n\n'
    return events


def error_in_stream(call: Call) -> list[bytes]:
    events = tokens(call)
    error = {"message": "the engine died", "type": "InternalServerError", "code": 500}
    return [*events[: len(events) // 2], event({"error": error}), DONE]


def two_events_a_send(call: Call) -> list[bytes]:
    events = whole_stream(call)
    return [b"".join(events[at : at + 2]) for at in range(0, len(events), 2)]


EVENTS: dict[str, Callable[[Call], list[bytes]]] = {
    "plain": whole_stream,
    "crlf": lambda call: [piece.replace(b"\n", b"\r\n") for piece in whole_stream(call)],
    # Keep-alive comments, event names, ids, no space after the colon.
    "comments": comments,
    # An event in the middle that is no JSON.
    "malformed_json": malformed_json,
    # No counts, though they were asked for.
    "missing_usage": lambda call: [*tokens(call), finish(call), DONE],
    # Other models answer than was asked, a different one each time.
    "wrong_model": lambda call: whole_stream(call, f"{WRONG_MODEL}-{time.monotonic_ns()}"),
    # Half an answer, an error event and [DONE], as SGLang does.
    "error_in_stream": error_in_stream,
    "no_done": lambda call: whole_stream(call)[:-1],
    "no_finish": lambda call: [*tokens(call), *usage_event(call), DONE],
    "no_tokens": lambda call: [DONE],
    "two_events_a_send": two_events_a_send,
}


def send_stream(events: Callable[[Call], list[bytes]], call: Call, **headers: str) -> bool:
    """These events, and a proper end of the body."""
    call.send_head(STREAM_HEAD | headers)
    call.send_chunks(events(call))
    call.send(LAST_CHUNK)
    return OPEN


STREAMS |= {name: partial(send_stream, events) for name, events in EVENTS.items()}


# ---- ends --------------------------------------------------------------------------------------


def half_stream(call: Call) -> None:
    """The head and half of the events."""
    events = tokens(call)
    call.send_head(STREAM_HEAD)
    call.send_chunks(events[: len(events) // 2])
    # What was sent is read before the end comes, so that tests see the same each time.
    time.sleep(0.02)


@behavior(STREAMS)
def cut_by_reset(call: Call) -> bool:
    """Half an answer, then RST."""
    half_stream(call)
    call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return CLOSE


@behavior(STREAMS)
def cut_by_close(call: Call) -> bool:
    """Half an answer, then FIN."""
    half_stream(call)
    return CLOSE


@behavior(STREAMS)
def never_ends(call: Call) -> bool:
    """More and more tokens, until the client goes."""
    call.send_head(STREAM_HEAD)
    while True:
        call.send_chunks(tokens(call))


@behavior(STREAMS)
def goes_silent(call: Call) -> bool:
    """Half an answer, and no more; the connection stays open."""
    half_stream(call)
    return wait_for_client(call)


@behavior(ALWAYS)
def never_answers(call: Call) -> bool:
    """The request is read, and that is all."""
    return wait_for_client(call)


def wait_for_client(call: Call) -> bool:
    """Until it closes the connection."""
    while call.connection.recv(65536):
        pass
    return CLOSE


# ---- framing -----------------------------------------------------------------------------------


@behavior(STREAMS)
def byte_by_byte(call: Call) -> bool:
    """A good answer, each byte in a send of its own."""
    call.send_head(STREAM_HEAD)
    answer = b"".join(map(chunk, whole_stream(call))) + LAST_CHUNK
    for at in range(len(answer)):
        call.send(answer[at : at + 1])
    return OPEN


@behavior(STREAMS)
def gzipped(call: Call) -> bool:
    """Server-sent events in gzip, though nobody asked for it."""
    body = gzip.compress(b"".join(whole_stream(call)))
    third = len(body) // 3
    call.send_head({**STREAM_HEAD, "content-encoding": "gzip"})
    call.send_chunks([body[:third], body[third : 2 * third], body[2 * third :]])
    call.send(LAST_CHUNK)
    return OPEN


@behavior(STREAMS)
def http_1_0(call: Call) -> bool:
    """HTTP/1.0: no length, the close is the end."""
    call.send_head({"content-type": "text/event-stream"}, version="HTTP/1.0")
    for piece in whole_stream(call):
        call.send(piece)
        time.sleep(call.pace)
    return CLOSE


@behavior(STREAMS)
def content_length(call: Call) -> bool:
    """Server-sent events of a length known before."""
    events = whole_stream(call)
    length = sum(map(len, events))
    call.send_head({"content-type": "text/event-stream", "content-length": str(length)})
    for piece in events:
        call.send(piece)
        time.sleep(call.pace)
    return OPEN


@behavior(STREAMS)
def one_packet(call: Call) -> bool:
    """Head and body in one send."""
    head = "\r\n".join(["HTTP/1.1 200 OK", *(f"{k}: {v}" for k, v in STREAM_HEAD.items())])
    body = b"".join(map(chunk, whole_stream(call)))
    call.send(head.encode() + b"\r\n\r\n" + body + LAST_CHUNK)
    return OPEN


@behavior(STREAMS)
def odd_chunks(call: Call) -> bool:
    """HTTP chunks of 7 bytes with extensions, and a trailer: events don't keep to them."""
    body = b"".join(whole_stream(call))
    call.send_head(STREAM_HEAD)
    for at in range(0, len(body), 7):
        piece = body[at : at + 7]
        call.send(b"%X;note=%d\r\n%s\r\n" % (len(piece), at, piece))
    call.send(b"0\r\nx-trailer: yes\r\n\r\n")
    return OPEN


@behavior(STREAMS)
def closes_each(call: Call) -> bool:
    """Connection: close with each answer."""
    send_stream(whole_stream, call, connection="close")
    return CLOSE


@behavior(ALWAYS)
def closes_idle(call: Call) -> bool:
    """A connection that looks reusable and is closed IDLE_SECONDS later."""
    well(call)
    time.sleep(IDLE_SECONDS)
    return CLOSE


@behavior(ALWAYS)
def continues_first(call: Call) -> bool:
    """100 Continue before the answer, though nobody asked for it."""
    call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return well(call)


@behavior(STREAMS)
def huge_headers(call: Call) -> bool:
    """50 kB of headers, more than many a client's limit for one read."""
    padding = {f"x-padding-{index}": "x" * 1000 for index in range(50)}
    return send_stream(whole_stream, call, **padding)


@behavior(STREAMS)
def malformed_chunk(call: Call) -> bool:
    """A chunk size that is no number."""
    half_stream(call)
    call.send(b"zz\r\n" + DONE + b"\r\n")
    return CLOSE


@behavior(STREAMS)
def ignores_stream(call: Call) -> bool:
    """JSON in one piece, though a stream was asked for."""
    call.send_json(whole_answer(call))
    return OPEN


# ---- everything else ---------------------------------------------------------------------------


def models(call: Call) -> bool:
    """/v1/models: one model."""
    model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "nobody"}
    call.send_json({"object": "list", "data": [model]})
    return OPEN


def well(call: Call) -> bool:
    """The good answer to whatever is asked."""
    if call.method == "GET" and call.path == "/v1/models":
        return models(call)
    if call.method != "POST" or not call.path.startswith("/v1/"):
        return refuse("not_found", call)
    try:
        streamed = bool(call.json.get("stream"))
    except json.JSONDecodeError:
        call.send_error("400 Bad Request", "the body is no JSON")
        return OPEN
    if streamed:
        return send_stream(whole_stream, call)
    call.send_json(whole_answer(call))
    return OPEN


def perform(name: str, call: Call) -> bool:
    """What this behavior does with this request."""
    asks = call.method == "POST" and call.path.startswith("/v1/")
    if name in EVERYWHERE:
        return EVERYWHERE[name](call)
    if name in ALWAYS and asks:
        return ALWAYS[name](call)
    if name in STREAMS and asks and call.json.get("stream"):
        return STREAMS[name](call)
    return well(call)


BEHAVIORS = sorted({**STREAMS, **ALWAYS, **EVERYWHERE})

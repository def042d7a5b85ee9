"""What the awkward server can be asked to do: each a function named after what it does.

A behaviour answers one request and tells whether the connection stays open.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
from collections.abc import Callable

from awkward_call import (
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

Behaviour = Callable[[Call], bool]

STREAMS: dict[str, Behaviour] = {}
"""Behaviours of streamed answers; anything else that is asked is answered well."""

ALWAYS: dict[str, Behaviour] = {}
"""Behaviours of every answer to a chat or completions request."""

EVERYWHERE: dict[str, Behaviour] = {}
"""Behaviours of every answer, /v1/models included."""


def streams(function: Behaviour) -> Behaviour:
    STREAMS[function.__name__] = function
    return function


def always(function: Behaviour) -> Behaviour:
    ALWAYS[function.__name__] = function
    return function


def everywhere(function: Behaviour) -> Behaviour:
    EVERYWHERE[function.__name__] = function
    return function


def half_stream(call: Call) -> None:
    """The head and half of the events."""
    events = tokens(call)
    call.send_head(STREAM_HEAD)
    call.send_chunks(events[: len(events) // 2])
    # What was sent is read before the end comes, so that tests see the same each time.
    time.sleep(0.02)


# ---- as it should be ---------------------------------------------------------------------------


@streams
def plain(call: Call) -> bool:
    """A good answer: chunked server-sent events."""
    call.send_head(STREAM_HEAD)
    call.send_chunks(whole_stream(call))
    call.send(LAST_CHUNK)
    return OPEN


# ---- statuses ----------------------------------------------------------------------------------


@everywhere
def unauthorized(call: Call) -> bool:
    """401, whatever the key."""
    call.send_error("401 Unauthorized", "Incorrect API key provided")
    return OPEN


@everywhere
def not_found(call: Call) -> bool:
    """404: no such path here."""
    call.send_error("404 Not Found", "Not Found")
    return OPEN


@always
def no_such_model(call: Call) -> bool:
    """404: the path is right, the model isn't."""
    call.send_error("404 Not Found", f"The model '{call.model}' does not exist")
    return OPEN


@always
def rate_limited(call: Call) -> bool:
    """429 with Retry-After."""
    call.send_error("429 Too Many Requests", "Rate limit reached", retry_after="1")
    return OPEN


@always
def server_error(call: Call) -> bool:
    """500."""
    call.send_error("500 Internal Server Error", "out of memory")
    return OPEN


@always
def unavailable(call: Call) -> bool:
    """503."""
    call.send_error("503 Service Unavailable", "the server is loading the model")
    return OPEN


@always
def bad_gateway(call: Call) -> bool:
    """502 from something in between: HTML, no JSON."""
    page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    head = {"content-type": "text/html", "content-length": str(len(page))}
    call.send_head(head, "502 Bad Gateway")
    call.send(page)
    return OPEN


@everywhere
def needs_key(call: Call) -> bool:
    """401 unless the request bears KEY."""
    if call.headers.get("authorization") == f"Bearer {KEY}":
        return well(call)
    call.send_error("401 Unauthorized", "Unauthorized")
    return OPEN


@always
def refuses_unknown_fields(call: Call) -> bool:
    """400 for ignore_eos and stream_options, as transformers serve."""
    unknown = sorted({"ignore_eos", "stream_options"} & set(call.json))
    if not unknown:
        return well(call)
    call.send_error("400 Bad Request", f"Unexpected keys in the request: {', '.join(unknown)}")
    return OPEN


# ---- ends --------------------------------------------------------------------------------------


@streams
def cut_by_reset(call: Call) -> bool:
    """Half an answer, then RST."""
    half_stream(call)
    call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return CLOSE


@streams
def cut_by_close(call: Call) -> bool:
    """Half an answer, then FIN."""
    half_stream(call)
    return CLOSE


@always
def closes_unanswered(call: Call) -> bool:
    """The request is read, and the connection closed."""
    return CLOSE


@streams
def never_ends(call: Call) -> bool:
    """More and more tokens, until the client goes."""
    call.send_head(STREAM_HEAD)
    while True:
        call.send_chunks(tokens(call))


@streams
def goes_silent(call: Call) -> bool:
    """Half an answer, and no more; the connection stays open."""
    half_stream(call)
    return wait_for_client(call)


@always
def never_answers(call: Call) -> bool:
    """The request is read, and that is all."""
    return wait_for_client(call)


def wait_for_client(call: Call) -> bool:
    """Until it closes the connection."""
    while call.connection.recv(65536):
        pass
    return CLOSE


# ---- framing -----------------------------------------------------------------------------------


@streams
def byte_by_byte(call: Call) -> bool:
    """A good answer, each byte in a send of its own."""
    call.send_head(STREAM_HEAD)
    answer = b"".join(map(chunk, whole_stream(call))) + LAST_CHUNK
    for at in range(len(answer)):
        call.send(answer[at : at + 1])
    return OPEN


@streams
def gzipped(call: Call) -> bool:
    """Server-sent events in gzip, though nobody asked for it."""
    body = gzip.compress(b"".join(whole_stream(call)))
    third = len(body) // 3
    call.send_head({**STREAM_HEAD, "content-encoding": "gzip"})
    call.send_chunks([body[:third], body[third : 2 * third], body[2 * third :]])
    call.send(LAST_CHUNK)
    return OPEN


@streams
def http_1_0(call: Call) -> bool:
    """HTTP/1.0: no length, the close is the end."""
    call.send_head({"content-type": "text/event-stream"}, version="HTTP/1.0")
    for piece in whole_stream(call):
        call.send(piece)
        time.sleep(call.pace)
    return CLOSE


@streams
def content_length(call: Call) -> bool:
    """Server-sent events of a length known before."""
    events = whole_stream(call)
    length = sum(map(len, events))
    call.send_head({"content-type": "text/event-stream", "content-length": str(length)})
    for piece in events:
        call.send(piece)
        time.sleep(call.pace)
    return OPEN


@streams
def one_packet(call: Call) -> bool:
    """Head and body in one send."""
    head = "\r\n".join(["HTTP/1.1 200 OK", *(f"{k}: {v}" for k, v in STREAM_HEAD.items())])
    body = b"".join(map(chunk, whole_stream(call)))
    call.send(head.encode() + b"\r\n\r\n" + body + LAST_CHUNK)
    return OPEN


@streams
def odd_chunks(call: Call) -> bool:
    """HTTP chunks of 7 bytes with extensions, and a trailer: events don't keep to them."""
    body = b"".join(whole_stream(call))
    call.send_head(STREAM_HEAD)
    for at in range(0, len(body), 7):
        piece = body[at : at + 7]
        call.send(b"%X;note=%d\r\n%s\r\n" % (len(piece), at, piece))
    call.send(b"0\r\nx-trailer: yes\r\n\r\n")
    return OPEN


@streams
def closes_each(call: Call) -> bool:
    """Connection: close with each answer."""
    call.send_head({**STREAM_HEAD, "connection": "close"})
    call.send_chunks(whole_stream(call))
    call.send(LAST_CHUNK)
    return CLOSE


@always
def closes_idle(call: Call) -> bool:
    """A connection that looks reusable and is closed IDLE_SECONDS later."""
    well(call)
    time.sleep(IDLE_SECONDS)
    return CLOSE


@always
def continues_first(call: Call) -> bool:
    """100 Continue before the answer, though nobody asked for it."""
    call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return well(call)


@streams
def huge_headers(call: Call) -> bool:
    """50 kB of headers, more than many a client's limit for one read."""
    padding = {f"x-padding-{index}": "x" * 1000 for index in range(50)}
    call.send_head({**STREAM_HEAD, **padding})
    call.send_chunks(whole_stream(call))
    call.send(LAST_CHUNK)
    return OPEN


@streams
def malformed_chunk(call: Call) -> bool:
    """A chunk size that is no number."""
    half_stream(call)
    call.send(b"zz\r\n" + DONE + b"\r\n")
    return CLOSE


@always
def not_http(call: Call) -> bool:
    """Something else speaks here."""
    call.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    return CLOSE


# ---- events ------------------------------------------------------------------------------------


def send_stream(call: Call, events: list[bytes]) -> bool:
    """These events, and a proper end of the body."""
    call.send_head(STREAM_HEAD)
    call.send_chunks(events)
    call.send(LAST_CHUNK)
    return OPEN


@streams
def crlf(call: Call) -> bool:
    """Lines that end with CR LF."""
    return send_stream(call, [piece.replace(b"\n", b"\r\n") for piece in whole_stream(call)])


@streams
def comments(call: Call) -> bool:
    """Keep-alive comments, event names, ids, no space after the colon."""
    noise = b": ping\n\n"
    named = [
        b"event: message\nid: 1\n" + piece.replace(b"data: ", b"data:", 1)
        for piece in whole_stream(call)
    ]
    return send_stream(call, [noise, *(part for piece in named for part in (piece, noise))])


@streams
def malformed_json(call: Call) -> bool:
    """An event in the middle that is no JSON."""
    events = whole_stream(call)
    events[len(events) // 2] = b'data: {"choices": [{"delta": {"conte\n\n'
    return send_stream(call, events)


@streams
def missing_usage(call: Call) -> bool:
    """No counts, though they were asked for."""
    return send_stream(call, [*tokens(call), finish(call), DONE])


@streams
def wrong_model(call: Call) -> bool:
    """Other models answer than was asked, a different one each time."""
    return send_stream(call, whole_stream(call, f"{WRONG_MODEL}-{time.monotonic_ns()}"))


@streams
def error_in_stream(call: Call) -> bool:
    """Half an answer, an error event and [DONE], as SGLang does."""
    events = tokens(call)
    error = {"message": "the engine died", "type": "InternalServerError", "code": 500}
    return send_stream(call, [*events[: len(events) // 2], event({"error": error}), DONE])


@streams
def no_done(call: Call) -> bool:
    """Everything but [DONE]."""
    return send_stream(call, whole_stream(call)[:-1])


@streams
def no_finish(call: Call) -> bool:
    """No finish_reason, but [DONE]."""
    return send_stream(call, [*tokens(call), *usage_event(call), DONE])


@streams
def no_tokens(call: Call) -> bool:
    """A stream that ends at once."""
    return send_stream(call, [DONE])


@streams
def ignores_stream(call: Call) -> bool:
    """JSON in one piece, though a stream was asked for."""
    call.send_json(whole_answer(call))
    return OPEN


@streams
def two_events_a_send(call: Call) -> bool:
    """Events in pairs: both come with one read."""
    events = whole_stream(call)
    pairs = [b"".join(events[at : at + 2]) for at in range(0, len(events), 2)]
    return send_stream(call, pairs)


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
        return not_found(call)
    try:
        streamed = bool(call.json.get("stream"))
    except json.JSONDecodeError:
        call.send_error("400 Bad Request", "the body is no JSON")
        return OPEN
    if streamed:
        return plain(call)
    call.send_json(whole_answer(call))
    return OPEN


def perform(name: str, call: Call) -> bool:
    """What this behaviour does with this request."""
    asks = call.method == "POST" and call.path.startswith("/v1/")
    if name in EVERYWHERE:
        return EVERYWHERE[name](call)
    if name in ALWAYS and asks:
        return ALWAYS[name](call)
    if name in STREAMS and asks and call.json.get("stream"):
        return STREAMS[name](call)
    return well(call)


BEHAVIOURS = sorted({**STREAMS, **ALWAYS, **EVERYWHERE})

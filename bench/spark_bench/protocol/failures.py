"""Why a request doesn't count: the kinds of failures, what each means, and what to do about it.

A failed request has one kind, the first that applies:

1. not a successful HTTP response: malformed_http; or a status other than 2xx (http_NNN,
   model_not_found), even if the body broke off
2. a body larger than any such answer: too_large; an error that the server reports in a 200 answer:
   stream_error
3. a body that can't be read: not_streamed, malformed_sse, malformed_json
4. a connection that ended before the answer did: refused, unreachable, reset, cut, timeout,
   interrupted, unsent. An answer has ended with [DONE], or with a finish_reason once its usage is
   there too. What breaks after that costs no token, so the request counts.
5. an answer from the wrong model: wrong_model
6. an incomplete answer: unfinished, no_tokens, missing_usage
"""

import re
from enum import StrEnum

from spark_bench.record import Ended


class Failure(StrEnum):
    """All kinds, except those for HTTP statuses, which are http_NNN (see `of_status`)."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    CUT = "cut"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    INTERRUPTED = "interrupted"
    UNSENT = "unsent"
    MODEL_NOT_FOUND = "model_not_found"
    STREAM_ERROR = "stream_error"
    MALFORMED_HTTP = "malformed_http"
    MALFORMED_SSE = "malformed_sse"
    MALFORMED_JSON = "malformed_json"
    NOT_STREAMED = "not_streamed"
    WRONG_MODEL = "wrong_model"
    UNFINISHED = "unfinished"
    NO_TOKENS = "no_tokens"
    MISSING_USAGE = "missing_usage"

    @property
    def meaning(self) -> str:
        """What happened, in words."""
        return _ABOUT[self][0]

    @property
    def cure(self) -> str:
        """What the user can do about it."""
        return _ABOUT[self][1]


_ABOUT = {
    Failure.REFUSED: (
        "nothing is listening at that address",
        "start the server, or give its address with --url",
    ),
    Failure.UNREACHABLE: (
        "no route, no such host, or connecting timed out",
        "check the host in --url, the network and the firewall",
    ),
    Failure.RESET: (
        "the server reset the connection before the response was complete",
        "check the server's log: it crashed, restarted or dropped the connection",
    ),
    Failure.CUT: (
        "the server closed the connection before the response was complete",
        "check the server's log, and that of any proxy in between, for a crash or a time limit",
    ),
    Failure.TIMEOUT: (
        "the response did not finish in time",
        "raise --timeout, or lower --concurrency",
    ),
    Failure.TOO_LARGE: (
        "the response is larger than any with that many tokens",
        "look at what the server sends (curl -N); SGLang's /generate repeats its text in each "
        "event: use --endpoint chat, or a shorter --output-len",
    ),
    Failure.INTERRUPTED: (
        "the run was stopped before the response finished",
        "let the run finish, or use fewer prompts",
    ),
    Failure.UNSENT: (
        "the run was stopped before the request's turn",
        "let the run finish, or use fewer prompts",
    ),
    Failure.MODEL_NOT_FOUND: (
        "the server does not serve the requested model",
        "set --model to a name that the server lists under /v1/models",
    ),
    Failure.STREAM_ERROR: (
        "the server reported an error in a response with status 200",
        "check the server's log; often it is out of memory or a request is too long",
    ),
    Failure.MALFORMED_HTTP: (
        "the response is not HTTP/1",
        "check the scheme (http:// or https://), host and port in --url",
    ),
    Failure.MALFORMED_SSE: (
        "the body is not a stream of server-sent events",
        "check that --url and --endpoint lead to a model server, not to a web page or a proxy",
    ),
    Failure.MALFORMED_JSON: (
        "an event is not JSON, or not in this endpoint's format",
        "check that the server supports this --endpoint",
    ),
    Failure.NOT_STREAMED: (
        "the server sent the response in one piece instead of a stream",
        "use an endpoint that streams; TTFT and ITL can't be measured otherwise",
    ),
    Failure.WRONG_MODEL: (
        "the response names a different model from the one requested",
        "set --model to the name of the served model",
    ),
    Failure.UNFINISHED: (
        "the stream ended without finish_reason and without [DONE]",
        "check the server's log; a proxy in between may have ended the stream",
    ),
    Failure.NO_TOKENS: (
        "the response is complete and has no tokens",
        "raise --output-len, or check the model's chat template",
    ),
    Failure.MISSING_USAGE: (
        "this response has no token counts, though others do",
        "check the server's log: it ended this response in an unusual way",
    ),
}

_STATUS_CURES = {
    "400": "read the server's message in the note; often prompt and output are too long",
    "401": "set SPARK_BENCH_API_KEY or --api-key-file",
    "403": "use an API key with permission for this: SPARK_BENCH_API_KEY or --api-key-file",
    "404": "check --url and --endpoint: the server has no such path",
    "405": "check --url and --endpoint: the server expects another method there",
    "407": "a proxy in between requires a login; connect without it",
    "413": "the prompt is too long for the server or a proxy: shorten it with --input-len",
    "422": "the server does not know a field of the request; try another --endpoint",
    "429": "the server limits requests: lower --request-rate or --concurrency",
    "500": "check the server's log for the error",
    "502": "the proxy in between could not reach the engine; check that it is running",
    "503": "the server is starting, draining or overloaded; wait, or lower the load",
    "504": "the time limit of the proxy in between is too short for this load",
}

_UNKNOWN_MODEL = re.compile(
    r"\bmodel\b.*\b(not found|not exist|unknown|not available|not loaded|not served|pinned)\b"
    r"|\b(unknown|no such|invalid|unrecognized|pinned to)\b.*\bmodel\b"
    r"|model_not_found",
    re.IGNORECASE | re.DOTALL,
)
# Statuses with which servers send the message that a model is unknown.
_UNKNOWN_MODEL_STATUSES = {400, 404, 422}

_BROKEN = {
    Ended.REFUSED: Failure.REFUSED,
    Ended.UNREACHABLE: Failure.UNREACHABLE,
    Ended.RESET: Failure.RESET,
    Ended.CUT: Failure.CUT,
    Ended.TIMEOUT: Failure.TIMEOUT,
    Ended.TOO_LARGE: Failure.TOO_LARGE,
    Ended.INTERRUPTED: Failure.INTERRUPTED,
    Ended.UNSENT: Failure.UNSENT,
    # The client saw an end, but the response's framing says that more should follow.
    Ended.COMPLETE: Failure.CUT,
}


def of_status(status: int, message: str) -> str:
    """The kind for an HTTP status that is not a success. message: what the server said"""
    if status in _UNKNOWN_MODEL_STATUSES and _UNKNOWN_MODEL.search(message):
        return Failure.MODEL_NOT_FOUND
    return f"http_{status}"


def of_connection(ended: Ended) -> Failure:
    """The kind for an exchange that ended this way before its answer did."""
    return _BROKEN[ended]


def meaning(kind: str) -> str:
    """What a kind of failure means, in words; also for kinds from other versions' results."""
    if kind.startswith("http_"):
        return f"the server answered with HTTP status {kind.removeprefix('http_')}"
    unknown = "a kind that this spark-bench does not know"
    return Failure(kind).meaning if kind in _ABOUT else unknown


def cure(kind: str) -> str:
    """What the user can do about a kind of failure, in one line."""
    if kind in _ABOUT:
        return Failure(kind).cure
    if re.fullmatch("http_3[0-9]{2}", kind):
        return "set --url to the address that the server redirects to"
    return _STATUS_CURES.get(kind.removeprefix("http_"), "read the server's message in the note")

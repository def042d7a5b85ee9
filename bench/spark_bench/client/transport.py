"""httpx over the recorder's sockets, for every request outside the load.

    with httpx.Client(transport=TapeTransport(recorder), base_url=recorder.target.url) as client:
        answer = client.get("/v1/models")

`answer.extensions["exchange"]` has the bytes as they came, with the kernel's times.
"""

import httpx

from spark_bench.client.recorder import MOST_BYTES, Recorder
from spark_bench.client.target import request_bytes
from spark_bench.protocol.content import Tape, read_response
from spark_bench.protocol.http1 import MalformedHttp
from spark_bench.record import Ended, Exchange

# Seconds, if httpx gives no read timeout.
TIMEOUT = 30.0

ERRORS: dict[Ended, type[httpx.TransportError]] = {
    Ended.REFUSED: httpx.ConnectError,
    Ended.UNREACHABLE: httpx.ConnectError,
    Ended.RESET: httpx.ReadError,
    Ended.CUT: httpx.RemoteProtocolError,
    Ended.TIMEOUT: httpx.ReadTimeout,
    Ended.TOO_LARGE: httpx.RemoteProtocolError,
    Ended.INTERRUPTED: httpx.ReadError,
    Ended.UNSENT: httpx.ConnectError,
}

# httpx gets the body whole and decoded, so these headers no longer describe it.
LEFT_OUT = ("content-encoding", "transfer-encoding", "content-length")


class TapeTransport(httpx.BaseTransport):
    """Sends one request at a time and returns once its response is complete.

    Raises httpx's own errors: ConnectError, ReadError, ReadTimeout, RemoteProtocolError.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        timeout = request.extensions.get("timeout", {}).get("read") or TIMEOUT
        exchange = self._recorder.exchange(request_bytes(request, self._recorder.target), timeout)
        if error := ERRORS.get(exchange.ended):
            raise error(exchange.detail, request=request)
        try:
            return response(exchange)
        except MalformedHttp as e:
            raise httpx.RemoteProtocolError(str(e), request=request) from None


def response(exchange: Exchange) -> httpx.Response:
    """Convert a finished exchange to a response of httpx. Raises MalformedHttp."""
    head, body = read_response(Tape.of(exchange), MOST_BYTES)
    return httpx.Response(
        head.status,
        # As bytes, since httpx accepts only ASCII in text.
        headers=[
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in head.headers.items()
            if name not in LEFT_OUT
        ],
        content=body.tape.data,
        extensions={"exchange": exchange, "reason_phrase": head.reason.encode("latin-1")},
    )

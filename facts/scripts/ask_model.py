"""Runs on rank 0's node, by `python3 -c`: sends requests to the engine there, prints what comes.

Reads one JSON object from stdin:

    url, key      where rank 0 serves; the API key, "" where none is required
    seconds       of all requests together
    most          bytes of one reply that are kept
    rounds        [{"together": false, "requests": [{"id", "path", "body", "stream"}]}]: the
                  requests of a round one after the other, or all at once; body null: a GET

Prints one JSON line a request, as soon as it has ended: id, status (0: nothing came), body (the
whole one), events (a stream's `data:` payloads), seconds, why (nothing came, or not all of it). A
request that has not ended when the time is over is cut off there, and so is the engine's work.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

TOO_LATE = "deadline"
Entry = dict[str, Any]
printing = threading.Lock()


class Asker:
    """The requests of one run; `open`: replies that have not been printed, as far as they came."""

    def __init__(self, plan: Entry) -> None:
        self.plan = plan
        self.end = time.monotonic() + plan["seconds"]
        ids = [request["id"] for part in plan["rounds"] for request in part["requests"]]
        blank: Entry = {"status": 0, "body": "", "seconds": 0.0, "why": TOO_LATE}
        self.open: dict[str, Entry] = {id_: {"id": id_, "events": [], **blank} for id_ in ids}

    def run(self) -> None:
        """All rounds, each to its end before the next."""
        for part in self.plan["rounds"]:
            groups = [[r] for r in part["requests"]] if part["together"] else [part["requests"]]
            threads = [threading.Thread(target=self.ask_all, args=[g], daemon=True) for g in groups]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def ask_all(self, requests: list[Entry]) -> None:
        for request in requests:
            begun, reply = time.monotonic(), self.open[request["id"]]
            try:
                self.ask(request, reply)
            except (OSError, http.client.HTTPException, ValueError) as e:
                late = isinstance(e, TimeoutError) or time.monotonic() >= self.end
                reply["why"] = TOO_LATE if late else f"{type(e).__name__}: {e}"[:200]
            reply["seconds"] = round(time.monotonic() - begun, 3)
            self.show(request["id"])

    def ask(self, request: Entry, reply: Entry) -> None:
        """Send a request, and fill its reply as it comes."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        to = urlsplit(self.plan["url"])
        connection = http.client.HTTPConnection(str(to.hostname), to.port, timeout=left)
        body = request["body"]
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.plan["key"]:
            headers["Authorization"] = f"Bearer {self.plan['key']}"
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request("GET" if data is None else "POST", request["path"], data, headers)
            response = connection.getresponse()
            reply["status"] = response.status
            if request["stream"] and response.status == 200:
                self.read_events(response, reply)
            else:
                self.read_body(response, reply)
        finally:
            connection.close()

    def read_body(self, response: http.client.HTTPResponse, reply: Entry) -> None:
        most = self.plan["most"]
        data = response.read(most + 1)
        reply["body"] = data[:most].decode("utf-8", "replace")
        missing = "" if not response.length else "the connection ended before its answer"
        reply["why"] = f"cut after {most} bytes" if len(data) > most else missing

    def read_events(self, response: http.client.HTTPResponse, reply: Entry) -> None:
        """The `data:` payloads of a stream, without the last one, which says [DONE]."""
        size, most = 0, self.plan["most"]
        while line := response.readline(most + 1):
            size += len(line)
            if size > most:
                reply["why"] = f"cut after {most} bytes"
                return
            name, _, payload = line.decode("utf-8", "replace").partition(":")
            if name == "data" and payload.strip() == "[DONE]":
                reply["why"] = ""
                return
            if name == "data":
                reply["events"].append(payload.strip())
        reply["why"] = "its stream ended without [DONE]"

    def show(self, name: str) -> None:
        with printing:
            if reply := self.open.pop(name, None):
                print(json.dumps({**reply, "events": list(reply["events"])}), flush=True)


def main() -> None:
    asker = Asker(json.load(sys.stdin))
    work = threading.Thread(target=asker.run, daemon=True)
    work.start()
    work.join(max(0, asker.end - time.monotonic()))
    for name in list(asker.open):
        asker.show(name)
    # Threads that still read would keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    main()

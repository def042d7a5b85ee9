"""`spark-bench run` in this process, as typed, against servers of the tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from spark_bench.cli import main
from spark_bench.prompts import served
from spark_bench.prompts.tokens import COMMON, ENOUGH
from spark_bench.protocol import reading
from spark_bench.record import Exchange, Request
from spark_bench.reference_server.streams import Stream
from spark_bench.results.codec import read_result as read_result
from spark_bench.results.schema import Result
from spark_bench.run import responses

REFERENCE_ID = re.compile(rb"x-reference-id: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Ran:
    """How a command ended; pairs: each measured request, and its reference server's stream id."""

    code: int
    out: str
    err: str
    results: list[Result]
    pairs: list[tuple[int, Request]]

    @property
    def result(self) -> Result:
        (only,) = self.results
        return only

    @property
    def notes(self) -> list[str]:
        """The result's notes, less those that a busy machine or very short responses add."""
        others = ("this client read up to", "slots stood idle")
        return [note for note in self.result.notes if not note.startswith(others)]

    @property
    def requests(self) -> list[Request]:
        return [request for _, request in self.pairs]

    @property
    def sent_ns(self) -> dict[int, int]:
        """When each was sent, by the reference server's id."""
        return {number: request.sent_ns for number, request in self.pairs}

    def streams(self, dumped: Sequence[Stream]) -> list[Stream]:
        """The reference server's streams of the measured requests, in the requests' order."""
        by_id = {stream.id: stream for stream in dumped}
        return [by_id[number] for number, _ in self.pairs if number in by_id]


def run(url: str, *words: str, here: Path | None = None, env: dict[str, str] | None = None) -> Ran:
    """Type `spark-bench run WORDS`; the results are read back from their files.

    here: the folder of --output, which is then given

    Without a warm-up, unless one is asked for: these servers have nothing to warm up.
    """
    if "--warmup" not in words:
        words = (*words, "--warmup", "0")
    if here is not None:
        here.mkdir(exist_ok=True)
        words = (*words, "--output", str(here / "run.json"))
    pairs: list[tuple[int, Request]] = []

    def read(exchange: Exchange, *args: Any, **options: Any) -> Request:
        match = REFERENCE_ID.search(exchange.data[:4096])
        request = reading.read_exchange(exchange, *args, **options)
        pairs.append((int(match[1]) if match else 0, request))
        return request

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(responses, "read_exchange", read)
        # The reference server is asked for the tokens of one word at a time.
        patched.setattr(served, "COMMON", COMMON[: ENOUGH + 8])
        patched.delenv("SPARK_BENCH_API_KEY", raising=False)
        done = CliRunner().invoke(main, ["run", *words, "--url", url], env=env)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    results = [read_result(file) for file in sorted(here.glob("run*.json"))] if here else []
    measured = sum(r.summary.completed + r.summary.failed for r in results)
    return Ran(
        done.exit_code, done.stdout, done.stderr, results, pairs[-measured:] if measured else pairs
    )


def short(**changes: int | str) -> list[str]:
    """A load of few and short requests: its words; None leaves one out."""
    plain: dict[str, int | str] = {"n": 8, "i": 16, "o": 8, "c": 4}
    return [word for name, value in (plain | changes).items() for word in (f"-{name}", str(value))]

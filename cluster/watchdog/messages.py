"""What watchdogs say to each other: a worker sends its report, the head sends its answer.

One JSON object each way over a TCP connection of its own, on the fabric address, which ends with
it. What the other side sends is hostile until parsed: bounded in size, numbers in range, words from
a list. Runs on nodes: the standard library alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any, get_args

from cluster.watchdog.duties import HeadAnswer, RankReport, Wish

# Bytes of a message.
MOST = 512
# A head's first generation is drawn below FIRST, and counted on.
FIRST = 2**52
MOST_GENERATION = 2**53
MOST_AGE = 10.0 * 366 * 86400
# A container's id and Docker's time of its start.
_LIFE = re.compile(r"[0-9A-Za-z:.+-]{0,128}")


def dump_report(rank: int, report: RankReport) -> bytes:
    """A worker's report as it is sent."""
    return json.dumps({"rank": rank, **asdict(report)}).encode()


def dump_answer(answer: HeadAnswer) -> bytes:
    """The head's answer as it is sent."""
    return json.dumps({**asdict(answer), "age": round(min(answer.age, MOST_AGE), 3)}).encode()


def parse_report(data: bytes, ranks: int) -> tuple[int, RankReport] | None:
    """A worker's rank and report; None where it is none.

    + ranks: of the group; rank 0 reports to nobody
    """
    message = _object(data, {"rank", "generation", "life", "on_duty"})
    if message is None:
        return None
    rank, generation = message["rank"], message["generation"]
    life, on_duty = message["life"], message["on_duty"]
    valid = (
        _whole(rank, 1, ranks - 1)
        and _whole(generation, 0, MOST_GENERATION)
        and isinstance(life, str)
        and _LIFE.fullmatch(life) is not None
        and isinstance(on_duty, bool)
    )
    return (rank, RankReport(generation, life, on_duty)) if valid else None


def parse_answer(data: bytes) -> HeadAnswer | None:
    """The head's answer; None where it is none."""
    message = _object(data, {"generation", "wish", "age"})
    if message is None:
        return None
    generation, wish, age = message["generation"], message["wish"], message["age"]
    valid = (
        _whole(generation, 0, MOST_GENERATION)
        and wish in get_args(Wish)
        and type(age) in (int, float)
        and 0 <= age <= MOST_AGE
    )
    return HeadAnswer(generation, wish, float(age)) if valid else None


def _object(data: bytes, names: set[str]) -> dict[str, Any] | None:
    if len(data) > MOST:
        return None
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and message.keys() == names else None


def _whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most

"""Which results a user means: filters, times, beginnings of ids."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.formats import did_you_mean
from spark_bench.history.entry import timestamp

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Filters(Struct, frozen=True, kw_only=True):
    """What an entry must match; "" matches everything.

    model, url, load: a part of it, ignoring case
    since, until: from `parse_moment`; `until` itself is excluded
    """

    model: str = ""
    url: str = ""
    load: str = ""
    profile: str = ""
    status: str = ""
    verdict: str = ""
    since: str = ""
    until: str = ""

    def where(self) -> tuple[str, list[str]]:
        """An SQL condition on the table `results`, and its parameters."""
        conditions = list(self._conditions())
        text = " AND ".join(condition for condition, _ in conditions) or "TRUE"
        return text, [value for _, value in conditions]

    def _conditions(self) -> Iterator[tuple[str, str]]:
        for name in ("model", "url", "load"):
            if part := getattr(self, name):
                yield f"instr(lower({name}), lower(?)) > 0", part
        for name in ("profile", "status", "verdict"):
            if whole := getattr(self, name):
                yield f"{name} = ?", whole
        if self.since:
            yield "created >= ?", self.since
        if self.until:
            yield "created < ?", self.until


def parse_moment(text: str, option: str, now: datetime) -> str:
    """A typed time in the store's format: "7d" before `now`, a date, or a local time.

    BadInput names `option`.

    >>> from datetime import UTC
    >>> parse_moment("36h", "--since", datetime(2026, 11, 23, 12, tzinfo=UTC))
    '2026-11-22T00:00:00.000000Z'
    """
    try:
        if ago := re.fullmatch(r"([0-9]+)([mhdw])", text.strip()):
            return timestamp(now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
        return timestamp(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        raise BadInput(
            f"{option}: {text!r} is not a time; use 36h, 7d, 2w, 2026-11-23 or 2026-11-23T14:30"
        ) from None


# Ids that a message names.
SHOWN = 3


def short_id(id: str) -> str:
    """The part of an id that `history list` shows: the random part.

    >>> short_id("20261123T133805250Z-0a1b2c3d")
    '0a1b2c3d'
    """
    return id.rpartition("-")[2]


def resolve_id(word: str, ids: Sequence[str]) -> str:
    """The id that starts with `word`, or whose random part does; BadInput for none or several."""
    if word in ids:
        return word
    matches = (
        [id for id in ids if id.startswith(word) or short_id(id).startswith(word)] if word else []
    )
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise BadInput(
            f"id {word!r} matches {len(matches)} results ({_some(matches)}): give more characters"
        )
    raise BadInput(f"id {word!r} is not in the history{_nearest(word, ids)}")


def _nearest(word: str, ids: Sequence[str]) -> str:
    if not ids:
        return ", which is empty"
    names = [name for id in ids for name in (id, short_id(id))]
    return did_you_mean(word, names, SHOWN, cutoff=0.5) or ": see spark-bench history list"


def _some(ids: Iterable[str]) -> str:
    shown = list(ids)
    rest = ", …" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + rest

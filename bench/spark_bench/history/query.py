"""Which results are meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.formats import did_you_mean
from spark_bench.history.entry import timestamp

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Filters(Struct, frozen=True, kw_only=True):
    """What a result must be; "" and None let everything pass.

    model, url, load: a part of it, in any case of letters
    since, until: as `parse_moment` gives them; the end itself is left out
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
        """An SQL condition over the table `results`, and the values of its marks."""
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
    """A time as it is typed, as the store has it: "7d" before `now`, or a date, a local time.

    BadInput names the option.

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
            f"{option}: {text!r} is no time: give 90m, 36h, 7d, 2w, 2026-11-23 or 2026-11-23T14:30"
        ) from None


# As many as fit a sentence.
SHOWN = 3


def short_id(id: str) -> str:
    """What `history list` shows of an id: the part that is chance.

    >>> short_id("20261123T133805250Z-0a1b2c3d")
    '0a1b2c3d'
    """
    return id.rpartition("-")[2]


def resolve_id(word: str, ids: Sequence[str]) -> str:
    """The one id that begins like `word`, or whose tail does; BadInput for none or several."""
    if word in ids:
        return word
    found = (
        [id for id in ids if id.startswith(word) or short_id(id).startswith(word)] if word else []
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(
            f"id {word!r} is the beginning of {len(found)} results ({_some(found)}): "
            "give more of it"
        )
    raise BadInput(f"id {word!r} is not in the history{_nearest(word, ids)}")


def _nearest(word: str, ids: Sequence[str]) -> str:
    if not ids:
        return ", which is empty"
    names = [name for id in ids for name in (id, short_id(id))]
    return (
        did_you_mean(word, names, SHOWN, cutoff=0.5) or ": spark-bench history list shows what is"
    )


def _some(ids: Iterable[str]) -> str:
    shown = list(ids)
    rest = ", …" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + rest

"""Which results are meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from spark_bench.errors import BadInput
from spark_bench.history.entry import timestamp

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Filters(Struct, frozen=True, kw_only=True):
    """What a result must be; "" and None let everything pass.

    model, url, load: a part of it, in any case of letters
    since, until: as `moment` gives them; the end itself is left out
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


def moment(text: str, option: str, now: datetime) -> str:
    """A time as it is typed, as the store has it: "7d" before `now`, or a date, a local time.

    BadInput names the option.

    >>> from datetime import UTC
    >>> moment("36h", "--since", datetime(2026, 11, 23, 12, tzinfo=UTC))
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

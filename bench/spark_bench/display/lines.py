"""What the client tells the process that draws: JSON, a line each."""

from __future__ import annotations

from msgspec import Struct

from spark_bench.client.progress import Progress


class Line(Struct, frozen=True, omit_defaults=True):
    """One of them.

    label, total: a load begins
    look: a look at it
    step: what is done until then
    say: a line for people
    """

    label: str | None = None
    total: int = 0
    look: Progress | None = None
    say: str | None = None
    step: str | None = None

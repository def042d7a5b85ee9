"""`--max-failures`: how many failed requests a run may have and still exit with 0."""

from __future__ import annotations

from msgspec import Struct

from spark_bench.errors import BadInput, TooManyFailures


class FailureLimit(Struct, frozen=True):
    """At most `count` requests, or, where it is set, at most `percent` of all."""

    count: int = 0
    percent: float | None = None

    def __str__(self) -> str:
        return f"{self.count}" if self.percent is None else f"{self.percent:g}%"

    def check(self, failed: int, total: int) -> None:
        """TooManyFailures when more than that failed."""
        allowed = self.count if self.percent is None else self.percent / 100 * total
        if failed > allowed:
            raise TooManyFailures(
                f"{failed} of {total} requests failed, and --max-failures {self} allows no more "
                "than that: see the failures above, or allow more"
                if self.count or self.percent
                else f"{failed} of {total} requests failed: see the failures above, or allow some "
                f"with --max-failures {failed}"
            )


def parse_limit(text: str) -> FailureLimit:
    """`5` requests or `2.5%` of them; BadInput for anything else."""
    try:
        if text.endswith("%"):
            percent = float(text[:-1])
            if 0 <= percent <= 100:
                return FailureLimit(percent=percent)
        elif (count := int(text)) >= 0:
            return FailureLimit(count)
    except ValueError:
        pass
    raise BadInput(
        f"--max-failures {text}: give a number of requests, 0 or more, or a share of them, "
        "such as 1%"
    )

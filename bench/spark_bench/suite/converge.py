"""The deploy of one model by the project's own command line, and what its words mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from spark_bench.display.figures import duration
from spark_bench.project import last_lines
from spark_bench.suite.asked import Settings
from spark_bench.suite.child import Ended
from spark_bench.suite.status import Failure
from spark_bench.suite.vary import said

# What the project says where it refuses before any rank was touched (its control/shared.py and
# operations/serving.py). pyinfra's exit code is 1 for everything.
REFUSED = ("refused, nothing was changed:", "refused; what came is kept")
# More lines say the same once more.
LINES = 4
LINE = 400  # characters
# Lines of pyinfra's log that say nothing of a cause.
_NOISE = re.compile(
    r"waiting, \d|every rank |Error: executed|(Error|Success|No changes|Skipped|Connected)$|Ready: "
    r"|Connecting to |Loading "
)
# The operations of the project's deploy.py that bring what is large. Each has limits of its own
# (download_stall_timeout, pull_timeout) and a line of progress every 10 s.
_BRINGS = re.compile(r"(Image |tiktoken vocabularies|Weights of )")
_OPERATION = "--> Starting operation: "
_HOST = re.compile(r"\[([^\]]+)\] ?(.*)")


def words(pyinfra: str, inventory: Path, data: Settings) -> list[str]:
    """The command line. A model that fails is followed by the next one: what served before the
    whole run is restored at its end, not after each failure."""
    asked = {"rollback": False, **data}
    settings = [
        word for name, value in asked.items() for word in ("--data", f"{name}={said(value)}")
    ]
    return [pyinfra, "-y", str(inventory), "deploy.py", *settings]


class Downloads:
    """Told a deploy's lines one by one: whether the time for the start-up counts anew from there.

    It does as long as something is brought to the nodes, so that only a deploy which says nothing
    for all that time is ended then, and once more with the operation after that.
    """

    def __init__(self) -> None:
        self._under_way = False

    def __call__(self, line: str) -> bool:
        before = self._under_way
        if line.startswith(_OPERATION):
            self._under_way = bool(_BRINGS.match(line, len(_OPERATION)))
        return before or self._under_way


def failure(ended: Ended, seconds: float) -> Failure | None:
    """What went wrong with a deploy that had so many seconds; None: nothing."""
    if ended.code == 0:
        return None
    if ended.code is None:
        last = _last_words(ended.lines)
        return Failure(
            "STARTUP_FAILED",
            f"not served within {duration(seconds)} (--startup-timeout, not counting downloads)"
            f"{f': {last}' if last else ''}",
        )
    if refusal := _refusal(ended.lines):
        return Failure("CONFIG_FAILED", refusal)
    return Failure("STARTUP_FAILED", _causes(ended.lines) or f"pyinfra ended with {ended.code}")


def _refusal(lines: Sequence[str]) -> str:
    """What stands below the refusal; "" where nothing was refused."""
    for number, line in enumerate(lines):
        if any(words in line for words in REFUSED):
            below = lines[number + 1 :]
            told = (_unmarked(text) for text in below[: _block(below)])
            return _joined(text for text in told if _tells(text))
    return ""


def _block(lines: Sequence[str]) -> int:
    """How many lines belong together: until an empty one, or pyinfra's next heading."""
    ends = (n for n, line in enumerate(lines) if not line.strip() or line.startswith("--> "))
    return next(ends, len(lines))


def _causes(lines: Sequence[str]) -> str:
    """The lines of the operation that failed which say why: neither a rank's log nor progress."""
    marks = [n for n, line in enumerate(lines) if line.startswith(_OPERATION)]
    told = (
        [m[2] for line in lines[marks[-1] :] if (m := _HOST.match(line.strip()))] if marks else []
    )
    return _joined(text for text in told if _tells(text)) or _joined(_ending(lines))


def _tells(text: str) -> bool:
    return bool(text) and not _NOISE.match(text) and " | " not in text


def _ending(lines: Sequence[str]) -> list[str]:
    """The last lines, with their hosts: before any operation they don't name these themselves."""
    last = last_lines("\n".join(lines))
    return [line for line in last if _tells(_unmarked(line))]


def _last_words(lines: Sequence[str]) -> str:
    """Where a deploy was when its time was over."""
    told = [_unmarked(line) for line in lines if line.strip() and " | " not in line]
    return told[-1][:LINE] if told else ""


def _unmarked(line: str) -> str:
    """Without pyinfra's mark of the host, which the text names where it matters."""
    text = line.strip().removeprefix("--> ")
    found = _HOST.match(text)
    return found[2].strip() if found else text


def _joined(lines: Iterable[str]) -> str:
    found = [line.strip()[:LINE] for line in lines if line.strip()]
    return "; ".join(dict.fromkeys(found[:LINES]))

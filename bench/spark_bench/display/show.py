"""Where progress goes: to a bar, to plain lines, or nowhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, TextIO

from spark_bench.client.progress import Progress


class Show(Protocol):
    """Shows a run while it lasts. No call blocks or fails, whatever becomes of the terminal."""

    def step(self, text: str) -> None:
        """What is done until the next step, or the load, begins: it may take long."""

    def start(self, total: int, label: str) -> None:
        """A load of so many requests begins; label: what it is ("quick", "repeat 2 of 3")."""

    def update(self, progress: Progress) -> None:
        """A look at it; nothing is shown outside of a load, such as while it is prepared."""

    def end(self) -> None:
        """It is over."""

    def say(self, text: str) -> None:
        """A line for people, beside the progress."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Silent:
    """`--quiet`."""

    def step(self, text: str) -> None:
        pass

    def start(self, total: int, label: str) -> None:
        pass

    def update(self, progress: Progress) -> None:
        pass

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def chosen(stream: TextIO, *, quiet: bool) -> Show:
    """The way that fits `stream`: a bar on a terminal, else a line a second."""
    if quiet:
        return Silent()
    if stream.isatty():
        from spark_bench.display.bar import Bar

        return Bar(stream)
    from spark_bench.display.plain import Plain

    return Plain(stream)

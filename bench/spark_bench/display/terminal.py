"""A console whose output is safe to show, whatever a server or a file says."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from spark_bench.printable import printable

PIPED_WIDTH = 100  # columns when the output is no terminal


class Terminal(Console):
    """A console that takes strings as text, never markup, and makes all text printable."""

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text, lines=True), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.is_control:
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)


def print_all(things: Iterable[RenderableType], stream: TextIO | None = None) -> None:
    """Print to stdout or `stream`; in 100 columns without color if that is not a terminal."""
    stream = stream or sys.stdout
    console = Terminal(file=stream, width=None if stream.isatty() else PIPED_WIDTH)
    for thing in things:
        console.print(thing)

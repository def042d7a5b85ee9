"""Prints what is drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, RenderableType

PIPED_WIDTH = 100  # columns, where no terminal says how many there are


def print_all(things: Iterable[RenderableType], stream: TextIO | None = None) -> None:
    """To stdout, or `stream`; without colour and 100 columns wide where that is no terminal."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else PIPED_WIDTH
    console = Console(file=stream, width=width, highlight=False)
    for thing in things:
        console.print(thing)

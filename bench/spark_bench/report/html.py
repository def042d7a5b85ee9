"""The page as bytes."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spark_bench.printable import printable
from spark_bench.report.page import Page


def html(page: Page) -> bytes:
    """One file that loads nothing else."""
    return _environment().get_template("page.html").render(page=page).encode()


def _printable(value: Any) -> Any:
    """What a template shows: a chart is markup, made from printable text."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value, lines=True) if plain else value


@cache
def _environment() -> Environment:
    return Environment(
        # Everything that results say is text, never markup.
        autoescape=True,
        finalize=_printable,
        loader=PackageLoader("spark_bench.report", "template"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

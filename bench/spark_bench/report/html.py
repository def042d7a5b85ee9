"""The page as bytes."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from spark_bench.report.page import Page


def html(page: Page) -> bytes:
    """One file that loads nothing else."""
    return _environment().get_template("page.html").render(page=page).encode()


@cache
def _environment() -> Environment:
    return Environment(
        # Everything that results say is text, never markup.
        autoescape=True,
        loader=PackageLoader("spark_bench.report", "template"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

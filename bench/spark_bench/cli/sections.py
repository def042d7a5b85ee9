"""Options under headings: `--help` of a command with forty of them must be readable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click

COLUMN = 26  # characters for an option's name, the same under every heading


class SectionOption(click.Option):
    """An option that knows its heading."""

    def __init__(self, *args: Any, section: str, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.section = section


def under(section: str) -> Callable[..., Any]:
    """`click.option`, for options under that heading."""
    return partial(click.option, cls=SectionOption, section=section)


class SectionCommand(click.Command):
    """A command whose options are listed by heading, in the order in which headings appear."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "section", "Other"), []).append(record)
        # --help comes last, as everywhere.
        sections["Other"] = sections.pop("Other", [])
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(COLUMN), text) for name, text in rows], COLUMN)

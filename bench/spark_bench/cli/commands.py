"""A group whose commands are imported when they are used, and whose errors are one line; and
commands whose options stand under headings."""

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from spark_bench.formats import did_you_mean
from spark_bench.printable import printable

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Libraries under numpy and tokenizers start a thread per core, which spin while they have nothing
# to do: 11.5 s of CPU instead of 3.7 on a machine of many cores, taken from a server there and from
# our own loop. They read these when they are loaded, in children too.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# It starts the project's deploys, whose engines would inherit these.
DEPLOYS = "all"


def print_message(text: str) -> None:
    """Print lines for people, to stderr."""
    click.echo(printable(text, lines=True), err=True)


class LazyCommands(click.Group):
    """modules: command → the module that holds it as `command`; shorts: its line in --help."""

    def __init__(
        self, name: str, modules: Mapping[str, str], shorts: Mapping[str, str], **attrs: Any
    ) -> None:
        super().__init__(name, **attrs)
        self.modules, self.shorts = modules, shorts

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        if cmd_name != DEPLOYS:
            for variable, value in ONE_THREAD.items():
                os.environ.setdefault(variable, value)
        command = import_module(self.modules[cmd_name]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; an unknown name is answered with the commands."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], self.modules.keys(), most=1)
            raise click.UsageError(
                f"{error.message.rstrip('.')}{hint}; there are: {', '.join(self.modules)}", ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.shorts.items()))

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and exit: 0, 1 (BenchError), 2 (what was typed), 130 (Ctrl-C)."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            print_message(f"Error: {error.format_message()}")
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("Aborted", err=True)
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


# ---- options under headings: `--help` of a command with forty of them must be readable

COLUMN = 26  # characters for an option's name, the same under every heading


class SectionOption(click.Option):
    """An option that knows its heading."""

    def __init__(self, *args: Any, section: str, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.section = section


def section_option(section: str) -> Callable[..., Any]:
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

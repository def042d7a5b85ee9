"""A group whose commands are imported when they are used, and whose errors are one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from spark_bench.formats import did_you_mean
from spark_bench.printable import printable

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Libraries under numpy and tokenizers start a thread a core, which spin while they have nothing to
# do: 11.5 s of CPU in place of 3.7 on a machine of many cores, taken from a server there and from
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
# It starts the project's deploys, whose engines would inherit that.
DEPLOYS = "all"


def say(text: str) -> None:
    """Lines for people, to stderr."""
    click.echo(printable(text, lines=True), err=True)


class Commands(click.Group):
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
        """As click's; a name that is none gets those that there are."""
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
            say(f"Error: {error.format_message()}")
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("Aborted", err=True)
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)

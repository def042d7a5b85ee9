"""A group of commands that are imported when they are used; shared options; errors on one line."""

import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from spark_cluster.printable import printable

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

inventory_option: Callable[[Any], Any] = click.option(
    "-i",
    "--inventory",
    type=click.Path(path_type=Path),
    envvar="SPARK_INVENTORY",
    metavar="FILE",
    help="The inventory (or SPARK_INVENTORY).  [default: inventories/spark.py]",
)

data_option: Callable[[Any], Any] = click.option(
    "--data",
    multiple=True,
    metavar="NAME=VALUE",
    help="Override a setting of the inventory, as for the deploy.",
)


def on_terminal() -> bool:
    """Whether someone can answer questions: stdin is a terminal."""
    return sys.stdin.isatty()


class ClusterError(click.ClickException):
    """An error that ends a command: the message names the thing, the value and the cure."""

    exit_code = 1


class Commands(click.Group):
    """A group that imports a command's module only when the command is used.

    + shorts: command → its line in --help; the command is `command` in spark_cluster.COMMAND
    """

    def __init__(self, name: str, shorts: Mapping[str, str], **attrs: Any) -> None:
        super().__init__(name, **attrs)
        self.shorts = shorts

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.shorts)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.shorts:
            return None
        command = import_module(f"spark_cluster.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """click's own; for an unknown name, the error lists the commands that exist."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.shorts, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise click.UsageError(
                f"{error.message.rstrip('.')}{hint}; commands: {', '.join(self.shorts)}", ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.shorts.items()))

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and exit: 0, 1 (ClusterError), 2 (what was typed), 130 (Ctrl-C).

        A command's integer result is its exit code.
        """
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            message = printable(error.format_message(), lines=True)
            click.echo(f"spark-cluster: {message}", err=True)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("spark-cluster: stopped", err=True)
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def parse_data(data: Sequence[str]) -> dict[str, str]:
    """Name → value; click.BadParameter for a word without "="."""
    for word in data:
        if "=" not in word:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="--data")
    return dict(word.split("=", 1) for word in data)

"""Building blocks of the commands.

A group that imports its commands when they are used and reports errors in one line, commands whose
--help lists options under headings, and types for option values.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from spark_bench import INVENTORY, PROJECT
from spark_bench.formats import did_you_mean
from spark_bench.printable import printable

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Libraries below numpy and tokenizers start a thread per core, which spin while idle: on a machine
# with many cores, 11.5 s of CPU instead of 3.7, taken from a server there and from our own loop.
# They read these variables when they are loaded; child processes inherit them.
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
# The command that starts the project's deploys, whose engines would inherit these variables.
DEPLOYS = "all"


def print_message(text: str) -> None:
    """Print lines for people, to stderr."""
    click.echo(printable(text, lines=True), err=True)


class LazyCommands(click.Group):
    """A group whose commands are imported only when they are used.

    modules: by command name, the module that holds it as `command`
    shorts: by command name, its line in --help
    """

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
        """As click does, but the error for an unknown name lists the commands."""
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
        """Run and exit: 0 (success), 1 (BenchError), 2 (invalid command line), 130 (Ctrl-C)."""
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
    """An option with the heading under which --help lists it."""

    def __init__(self, *args: Any, section: str, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.section = section


def section_option(section: str) -> Callable[..., Any]:
    """`click.option` for options under this heading."""
    return partial(click.option, cls=SectionOption, section=section)


def server_options(server: Callable[..., Any]) -> list[Any]:
    """Which server is measured, as `run` and `quality` have it. server: of `section_option`"""
    return [
        server(
            "--url",
            envvar="SPARK_BENCH_URL",
            show_envvar=True,
            help="Default: the project's head, else http://localhost:30000.",
        ),
        server(
            "--project",
            type=ANY_PATH,
            default=PROJECT,
            help="Checkout of the project that deployed it.",
            show_default=True,
        ),
        server(
            "--inventory",
            type=ANY_PATH,
            default=INVENTORY,
            help="The project's inventory.",
            show_default=True,
        ),
        server("--model", metavar="NAME", help="Default: the model that the server lists."),
        server("--api-key-file", type=EXISTING_FILE, help="Default: $SPARK_BENCH_API_KEY, if set."),
    ]


def request_options(request: Callable[..., Any]) -> list[Any]:
    """What each request has, as `run` and `quality` send it. request: of `section_option`"""
    return [
        request(
            "--temperature",
            metavar="T",
            type=non_negative_number,
            default=0.0,
            help="Sampling temperature.",
            show_default=True,
        ),
        request(
            "--timeout",
            default=600,
            show_default=True,
            help="Time limit of one request.",
            metavar="SECONDS",
            type=positive_number(),
        ),
        request(
            "--extra-body",
            metavar="JSON",
            type=json_object,
            help="Merge these fields into each request.",
        ),
    ]


def output_options(output: Callable[..., Any]) -> list[Any]:
    """Where results go, as `run` and `quality` have it. output: of `section_option`"""
    return [
        output("--history/--no-history", default=True, help="Add the result to `history`."),
        output(
            "--json",
            "as_json",
            is_flag=True,
            help="Print the result as JSON; the rest goes to stderr.",
        ),
        output("--quiet", is_flag=True, help="No progress, no tables."),
    ]


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


# ---- types of option values; each error says what is allowed, and click adds the option's name

EXISTING_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
EXISTING_PATH = click.Path(exists=True, readable=True, path_type=Path)
ANY_PATH = click.Path(path_type=Path)

# Limits on JSON: levels, digits of a number, and the largest integer that readers can hold.
_DEEPEST = 100
_LONGEST_NUMBER = 400
_LARGEST_WHOLE = 2**63 - 1


def integer(*, min: int = 1, none: bool = False, auto: bool = False) -> Callable[[Any], int | None]:
    """A type for whole numbers of `min` or more.

    none: also accept `none`, which becomes 0 and lifts a limit
    auto: also accept `auto`, which becomes None
    """
    also = ", or none for no limit" if none else ", or auto" if auto else ""

    def convert(value: Any) -> int | None:
        if none and value == "none":
            return 0
        if auto and value == "auto":
            return None
        try:
            number = int(value)
        except ValueError:
            number = min - 1
        if number < min:
            raise click.BadParameter(f"{value} is not a whole number of {min} or more{also}")
        return number

    return convert


def positive_number(or_inf: str = "") -> Callable[[Any], float]:
    """A type for finite numbers above 0. or_inf: what `inf` means here; "": it is not accepted"""
    also = f", or inf for {or_inf}" if or_inf else ""

    def convert(value: Any) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not number > 0 or (math.isinf(number) and not or_inf):
            raise click.BadParameter(f"{value} is not a number above 0{also}")
        return number

    return convert


def non_negative_number(value: Any) -> float:
    """A finite number of 0 or more."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise click.BadParameter(f"{value} is not a number of 0 or more")
    return number


def json_object(value: Any) -> dict[str, Any]:
    """A JSON object as a dict that can be sent and saved again as JSON."""
    try:
        document = json.loads(
            value, parse_constant=_number, parse_float=_number, parse_int=lambda n: _number(n, int)
        )
        json.dumps(document, ensure_ascii=False).encode()
    # The message does not repeat the value, which may contain a key.
    except UnicodeEncodeError:
        raise click.BadParameter("it has half a character in it (a lone surrogate)") from None
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"it is not JSON ({error}); quote it for the shell") from None
    except RecursionError:
        raise click.BadParameter("it is nested too deep") from None
    if not isinstance(document, dict):
        raise click.BadParameter("""it is not a JSON object, such as '{"top_p": 0.9}'""")
    # The result has this value, too (without secrets): what can't be saved must fail now.
    level: list[Any] = [document]
    for _ in range(_DEEPEST):
        nested = (
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        )
        level = [item for items in nested for item in items]
    if level:
        raise click.BadParameter(f"it is nested too deep: {_DEEPEST} levels at most")
    return document


def _number(text: str, kind: type[int] | type[float] = float) -> float:
    """A number in JSON that every reader understands as the same value."""
    number = kind(text) if len(text) < _LONGEST_NUMBER else math.inf
    if not abs(number) <= (_LARGEST_WHOLE if kind is int else sys.float_info.max):
        raise click.BadParameter(f"{text[:40]} is not a number that JSON can hold")
    return number

"""Every --help of both programs."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from golden import assert_golden
from spark_bench.cli import main as spark_bench
from spark_cluster.main import main as spark_cluster


def helps(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of a command, and of each below it."""
    yield f"$ {context.command_path} --help\n\n{command.get_help(context)}\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            yield from helps(below, click.Context(below, info_name=name, parent=context))


@pytest.mark.parametrize(
    ("program", "command"), [("spark-bench", spark_bench), ("spark-cluster", spark_cluster)]
)
def test_every_help(program: str, command: click.Command) -> None:
    context = click.Context(command, info_name=program, terminal_width=80, max_content_width=80)
    assert_golden(f"help-{program}", "\n".join(helps(command, context)))

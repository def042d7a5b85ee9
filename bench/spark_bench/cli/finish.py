"""Carry the options out, show what came of it, and choose the exit code."""

from __future__ import annotations

import sys

import click

from spark_bench.cli.commands import INTERRUPTED, say
from spark_bench.display.progress import choose_display
from spark_bench.options import Outcome, RunOptions
from spark_bench.printable import json_text

# The run succeeded, and who looks for its file will not find it.
MISPLACED = 1


def carry_out(options: RunOptions) -> None:
    """Run; TooManyFailures or Exit unless all went well."""
    from spark_bench.run import execute

    with choose_display(sys.stderr, quiet=options.quiet) as show:
        outcome = execute(options, show)
    _print(options, outcome)
    if outcome.interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    options.max_failures.check(outcome.failed, outcome.total)
    if outcome.misplaced:
        raise click.exceptions.Exit(MISPLACED)


def _print(options: RunOptions, outcome: Outcome) -> None:
    unwritten = len(outcome.written) < len(outcome.results)
    as_json = options.as_json or unwritten
    if not options.quiet:
        from spark_bench.display.result_tables import tables
        from spark_bench.display.terminal import print_all

        print_all(tables(outcome, options.sweep), sys.stderr if as_json else sys.stdout)
    for note in outcome.notes:
        say(note)
    if as_json:
        # One that could not be written is not lost: whoever waited for it gets it here.
        from spark_bench.results.codec import encode

        for result in outcome.results:
            click.echo(json_text(encode(result)), nl=False)

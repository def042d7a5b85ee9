"""`spark-bench quality`."""

import os
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any

import click

from spark_bench import secret
from spark_bench.cli import commands
from spark_bench.printable import json_text

# A request failed, or the result could not be written where it should be.
INCOMPLETE = 1

EPILOG = """
\b
Tasks:
  arith    300 word problems of three levels, generated from --seed
  tools    51 scenarios with one tool and several, none that fits, nested
           arguments, unicode, parallel calls
  needle   facts at depths of 10 to 90 % of long texts, generated from --seed
  aime24, aime25, aime26, gsm8k, mmlu, mmlu_pro, gpqa
           by SGLang's own harness, sgl-eval (make sgl-eval); all but aime
           need --data

\b
Examples:
  spark-bench quality                    arith and tools
  spark-bench quality arith --limit 60 --thinking off
  spark-bench quality needle --lengths 4k,32k
  spark-bench quality --items mine.jsonl
  spark-bench quality --against before.json    what a change costs
  spark-bench quality --resume benchmark_results/quality_arith_….json

\b
A line of --items:
  {"prompt": "What is 6 x 7?", "answer": 42, "grader": "number"}
  graders: number, exact, contains, choice (a letter), json, calls

\b
Exit codes:
  0    done, and every item has an answer
  1    some have none, the server is unreachable, or the result could not be
       written where it should be, and was printed instead
  2    an option, a setting or a file is invalid; nothing was sent
  130  stopped by Ctrl-C; what was answered is written, marked partial
"""

task, server, request, output = map(
    commands.section_option, ("Task", "Server", "Requests", "Output")
)
OPTIONS = [
    task(
        "--items",
        metavar="FILE",
        type=commands.EXISTING_FILE,
        help="Send items of your own: a JSON object per line.",
    ),
    task(
        "--data",
        metavar="FILE",
        help="Problems for sgl-eval, as published, or on the hub: ORG/NAME@COMMIT:PATH.",
    ),
    task("--data-sha256", metavar="HEX", help="SHA-256 of --data; from the hub, it is required."),
    task(
        "--harness",
        metavar="PYTHON",
        type=commands.EXISTING_FILE,
        help="Python with sgl-eval. Default: .venv-sgl-eval/bin/python in --project.",
    ),
    task(
        "--lengths",
        metavar="N,...",
        help="Tokens of the texts of needle. Default: 4k, doubled until the context's end.",
    ),
    task("--limit", metavar="N", type=commands.integer(), help="Send only the first N items."),
    task(
        "--seed",
        metavar="N",
        type=commands.integer(min=0),
        default=0,
        help="The same seed generates the same items.",
        show_default=True,
    ),
    task(
        "--resume",
        metavar="FILE",
        type=commands.EXISTING_FILE,
        help="Send what has no answer yet in this result, and write it anew.",
    ),
    task(
        "--against",
        metavar="FILE",
        type=commands.EXISTING_FILE,
        help="Send the items of this result in the same way, and set the answers beside its own.",
    ),
    *commands.server_options(server),
    request(
        "--endpoint",
        type=click.Choice(["chat", "completions"]),
        default="chat",
        help="API to use; completions is for models without a chat template.",
        show_default=True,
    ),
    request(
        "--thinking",
        type=click.Choice(["default", "on", "off"]),
        default="default",
        help="What to request of the chat template (enable_thinking).",
        show_default=True,
    ),
    request(
        "--max-tokens",
        metavar="N",
        type=commands.integer(),
        help="Most tokens of an answer, thoughts included. Default: as the task has it.",
    ),
    request(
        "-c",
        "--concurrency",
        metavar="N",
        type=commands.integer(),
        default=8,
        help="Most requests in flight.",
        show_default=True,
    ),
    *commands.request_options(request),
    output(
        "--output",
        type=commands.ANY_PATH,
        help="Default: benchmark_results/quality_TASK_TIME.json.",
    ),
    output("--answers/--no-answers", default=True, help="Keep the answers in the result."),
    *commands.output_options(output),
]


def quality_flags(function: Callable[..., Any]) -> Any:
    """Add the tasks and all options."""
    flags = [click.argument("tasks", metavar="[TASK]...", nargs=-1), *OPTIONS]
    return reduce(lambda decorated, flag: flag(decorated), reversed(flags), function)


@click.command("quality", cls=commands.SectionCommand, epilog=EPILOG)
@quality_flags
@click.pass_context
def command(context: click.Context, /, **typed: Any) -> None:
    """Score the answers of what serves: items with known answers are sent, and graded.

    Each TASK makes a result of its own. Without TASK and --items: arith and tools.
    """
    from spark_bench.cli.check_quality import check_quality_options
    from spark_bench.display import quality_tables, terminal
    from spark_bench.display.progress import choose_display
    from spark_bench.quality.evaluate import evaluate
    from spark_bench.results.codec import encode_result

    chosen = {
        name
        for name in typed
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    options = check_quality_options(typed, os.environ, chosen)
    # The key is only for the server: child processes (ssh, git) need none.
    os.environ.pop(secret.VARIABLE, None)
    with choose_display(sys.stderr, quiet=options.output.quiet) as show:
        outcome = evaluate(options, show)
    # A result that could not be written is printed, so that it is not lost.
    as_json = options.output.as_json or outcome.misplaced
    if not options.output.quiet:
        stream = sys.stderr if as_json else sys.stdout
        for result in outcome.results:
            terminal.print_all(quality_tables.quality_tables(result), stream)
        for path in outcome.written:
            click.echo(f"written to {path}", file=stream)
    for note in outcome.notes:
        commands.print_message(note)
    if as_json:
        for result in outcome.results:
            click.echo(json_text(encode_result(result)), nl=False)
    if outcome.interrupted:
        raise click.exceptions.Exit(commands.INTERRUPTED)
    if outcome.misplaced or outcome.incomplete:
        raise click.exceptions.Exit(INCOMPLETE)

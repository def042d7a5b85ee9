"""`spark-bench run`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import click

from spark_bench import INVENTORY, PROJECT
from spark_bench.cli.commands import INTERRUPTED, SectionCommand, say, section_option
from spark_bench.cli.types import (
    ANY_PATH,
    EXISTING_FILE,
    EXISTING_PATH,
    integer,
    json_object,
    non_negative_number,
    positive_number,
)
from spark_bench.printable import json_text

if TYPE_CHECKING:
    from spark_bench.options import RunOptions, RunOutcome

# The run succeeded, but its file is not where it should be.
MISPLACED = 1

EPILOG = """
\b
Examples:
  spark-bench run                        10 prompts to the deployed server
  spark-bench run latency -r 4           100 prompts, 4 a second
  spark-bench run throughput -c 128 --repeat 3
  spark-bench run short --url http://spark-1:30000 --slo ttft=2000,tpot=50
  spark-bench run medium --sweep concurrency=1..64
  spark-bench run --json | jq .summary.output_throughput

\b
Exit codes:
  0    done, and no more requests failed than --max-failures
  1    more of them failed, the server is unreachable, or the result could
       not be written where it should be, and was printed instead
  2    an option, a setting or a file is invalid; nothing was sent
  130  stopped by Ctrl-C; what was measured is written, marked partial
"""


# The options by heading. All without a default here may be left out.


Flag = Callable[[Any], Any]


def _profile() -> list[Flag]:
    flag = section_option("Profile")
    return [
        flag(
            "-n", "--num-prompts", metavar="N", type=integer(), help="Number of requests to send."
        ),
        flag("-i", "--input-len", metavar="N", type=integer(), help="Tokens per prompt, exactly."),
        flag("-o", "--output-len", metavar="N", type=integer(), help="Tokens per answer."),
        flag(
            "-r",
            "--request-rate",
            metavar="RATE",
            type=positive_number(or_inf="as fast as possible"),
            help="Requests per second (open loop); inf: as fast as -c allows (closed loop).",
        ),
        flag(
            "-c",
            "--concurrency",
            metavar="N",
            type=integer(none=True),
            help="Most requests in flight; none: no limit.",
        ),
        flag("--profiles", type=EXISTING_FILE, multiple=True, help="TOML file with more profiles."),
    ]


def _load() -> list[Flag]:
    flag = section_option("Load")
    shown = partial(flag, show_default=True)
    seconds = partial(flag, metavar="SECONDS", type=positive_number())
    return [
        flag(
            "--burstiness",
            metavar="SHAPE",
            type=positive_number(or_inf="evenly spaced arrivals"),
            help="Arrivals at a rate: 1 Poisson (default), less for bursts, inf evenly spaced.",
        ),
        flag(
            "--ramp",
            metavar="A:B[:SHAPE]",
            help="Change the rate from A to B, linear or exponential.",
        ),
        seconds("--ramp-slots", help="Raise the requests in flight to -c over this time."),
        seconds("--duration", help="Send nothing after this time; -n is the maximum."),
        seconds("--timeout", default=600, show_default=True, help="Time limit of one request."),
        flag(
            "--warmup",
            metavar="auto|N",
            type=integer(min=0, auto=True),
            help="Uncounted requests first. auto (default): like the load's until steady, before "
            "the first repeat; N: before each repeat; 0: none.",
        ),
        shown(
            "--repeat",
            metavar="N",
            type=integer(),
            default=1,
            help="Measure this often, for confidence intervals.",
        ),
        shown(
            "--seed",
            metavar="N",
            type=integer(min=0),
            default=0,
            help="Runs with the same seed send identical bytes.",
        ),
        flag(
            "--sweep",
            metavar="OVER[=LOADS]",
            help="Run over concurrency or rate: concurrency=1..64, rate=1,2,4. Without LOADS it "
            "searches for them. Ends past the knee, or where --slo is missed.",
        ),
        flag("--trace", type=EXISTING_FILE, help="Replay the times and lengths of a JSONL trace."),
        flag(
            "--trace-speed",
            metavar="FACTOR",
            type=positive_number(),
            help="Replay speed; 2 is twice as fast.",
        ),
    ]


def _prompts() -> list[Flag]:
    flag = section_option("Prompts")
    count = partial(flag, metavar="N", type=integer())
    return [
        flag("--sharegpt", type=EXISTING_FILE, help="Take the prompts from a ShareGPT file."),
        count("--turns", help="Questions per conversation."),
        flag(
            "--think-time",
            metavar="SECONDS",
            type=non_negative_number,
            help="Pause between an answer and the next question.",
        ),
        count("--shared-prefix", help="Length of a prefix that all prompts share."),
        count("--prefix-groups", help="Number of distinct shared prefixes."),
        flag(
            "--cache",
            type=click.Choice(["miss", "hit"]),
            default="miss",
            show_default=True,
            help="miss: prompts the prefix cache has never seen; hit: the same prompt every time.",
        ),
        flag(
            "--tokenizer", type=EXISTING_PATH, help="tokenizer.json, or the folder that holds it."
        ),
    ]


def _server() -> list[Flag]:
    flag = section_option("Server")
    shown = partial(flag, show_default=True)
    return [
        flag(
            "--url",
            envvar="SPARK_BENCH_URL",
            show_envvar=True,
            help="Default: the project's head, else http://localhost:30000.",
        ),
        shown(
            "--project",
            type=ANY_PATH,
            default=PROJECT,
            help="Checkout of the project that deployed it.",
        ),
        shown("--inventory", type=ANY_PATH, default=INVENTORY, help="The project's inventory."),
        flag("--model", metavar="NAME", help="Default: the model that the server lists."),
        shown(
            "--endpoint",
            type=click.Choice(["chat", "completions", "generate"]),
            default="chat",
            help="API to use; generate is SGLang's own.",
        ),
        flag("--api-key-file", type=EXISTING_FILE, help="Default: $SPARK_BENCH_API_KEY, if set."),
        shown(
            "--ignore-eos/--no-ignore-eos",
            default=True,
            help="Force the length -o where supported.",
        ),
        shown(
            "--temperature",
            metavar="T",
            type=non_negative_number,
            default=0.0,
            help="Sampling temperature.",
        ),
        flag(
            "--extra-body",
            metavar="JSON",
            type=json_object,
            help="Merge these fields into each request.",
        ),
    ]


def _measure() -> list[Flag]:
    flag = section_option("Measure")
    return [
        flag("--slo", metavar="LIMITS", help="Limits for goodput: any of ttft=MS,tpot=MS,e2e=MS."),
        flag(
            "--count-tokens",
            type=click.Choice(["auto", "usage", "off"]),
            default="auto",
            show_default=True,
            help="How to count each event's tokens. auto: from the server's stream, else with a "
            "tokenizer; usage: from the stream only; off: with a tokenizer only.",
        ),
        flag(
            "--metrics/--no-metrics",
            default=None,
            help="Read the server's /metrics. Default: if there.",
        ),
        flag(
            "--power/--no-power", default=None, help="Read the nodes' GPU power. Default: if known."
        ),
    ]


def _output() -> list[Flag]:
    flag = section_option("Output")
    return [
        flag(
            "--max-failures",
            default="0",
            show_default=True,
            metavar="N|N%",
            help="Exit with 1 if more requests fail.",
        ),
        flag("--output", type=ANY_PATH, help="Default: benchmark_results/bench_PROFILE_TIME.json."),
        flag("--save-requests", is_flag=True, help="Write each request to a file beside it."),
        flag("--history/--no-history", default=True, help="Add the result to `history`."),
        flag(
            "--json",
            "as_json",
            is_flag=True,
            help="Print the result as JSON; the rest goes to stderr.",
        ),
        flag("--quiet", is_flag=True, help="No progress, no tables."),
    ]


def run_flags(function: Callable[..., Any]) -> Any:
    """All of them, and the profile's name, as one decorator."""
    argument = click.argument("name", metavar="[PROFILE]", default="quick")
    flags = [*_profile(), *_load(), *_prompts(), *_server(), *_measure(), *_output()]
    return reduce(lambda decorated, flag: flag(decorated), reversed([argument, *flags]), function)


@click.command("run", cls=SectionCommand, epilog=EPILOG)
@run_flags
def command(**typed: Any) -> None:
    """Send a load to a server and measure it.

    PROFILE is a load by name (see `spark-bench profiles`); -n -i -o -r -c change single fields of
    it and keep the rest.
    """
    import os

    from spark_bench.cli.check import check_options
    from spark_bench.display.progress import choose_display
    from spark_bench.run.execute import execute
    from spark_bench.secret import VARIABLE

    options = check_options(typed, os.environ)
    # The key is for the server: what is started from here (the sampler, ssh, git) needs none.
    os.environ.pop(VARIABLE, None)
    with choose_display(sys.stderr, quiet=options.output.quiet) as show:
        outcome = execute(options, show)
    _print_outcome(options, outcome)
    if outcome.interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    options.output.max_failures.check(outcome.failed, outcome.total)
    if outcome.misplaced:
        raise click.exceptions.Exit(MISPLACED)


def _print_outcome(options: RunOptions, outcome: RunOutcome) -> None:
    unwritten = len(outcome.written) < len(outcome.results)
    as_json = options.output.as_json or unwritten
    if not options.output.quiet:
        from spark_bench.display.result_tables import tables
        from spark_bench.display.terminal import print_all

        stream = sys.stderr if as_json else sys.stdout
        print_all(tables(outcome, options.load.sweep), stream)
    for note in outcome.notes:
        say(note)
    if as_json:
        # One that could not be written is not lost: whoever waited for it gets it here.
        from spark_bench.results.codec import encode

        for result in outcome.results:
            click.echo(json_text(encode(result)), nl=False)

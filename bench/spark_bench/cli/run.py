"""`spark-bench run`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, Any, TextIO

import click

from spark_bench import secret
from spark_bench.cli import commands
from spark_bench.errors import BadInput, BenchError
from spark_bench.printable import json_text, printable

if TYPE_CHECKING:
    from spark_bench.results.schema import Result

# The run succeeded, but its file is not where it should be.
MISPLACED = 1

EPILOG = """
\b
Examples:
  spark-bench run                        10 prompts to the deployed server
  spark-bench run latency -r 4           100 prompts, 4 per second
  spark-bench run throughput -c 128 --repeat 3
  spark-bench run short --url http://spark-1:30000 --slo ttft=2000,tpot=50
  spark-bench run medium --sweep concurrency=1..64
  spark-bench run --depth 0,4096,16384  prefill and decode after long contexts
  spark-bench run --as-published         what others measured, measured here
  spark-bench run --json | jq .summary.output_throughput

\b
Exit codes:
  0    done, and no more requests failed than --max-failures
  1    more of them failed, the server is unreachable, or the result could
       not be written where it should be, and was printed instead
  2    an option, a setting or a file is invalid; nothing was sent
  130  stopped by Ctrl-C; what was measured is written, marked partial
"""


# Options by heading. Those without a default here may be left out.
profile, load, published, prompts, server, measuring, output = map(
    commands.section_option,
    ("Profile", "Load", "Published figures", "Prompts", "Server", "Measure", "Output"),
)
RUN_OPTIONS = [
    profile(
        "-n",
        "--num-prompts",
        metavar="N",
        type=commands.integer(),
        help="Number of requests to send.",
    ),
    profile(
        "-i",
        "--input-len",
        metavar="N",
        type=commands.integer(),
        help="Tokens per prompt, exactly.",
    ),
    profile("-o", "--output-len", metavar="N", type=commands.integer(), help="Tokens per answer."),
    profile(
        "-r",
        "--request-rate",
        metavar="RATE",
        type=commands.positive_number(or_inf="as fast as possible"),
        help="Requests per second (open loop); inf: as fast as -c allows (closed loop).",
    ),
    profile(
        "-c",
        "--concurrency",
        metavar="N",
        type=commands.integer(none=True),
        help="Most requests in flight; none: no limit.",
    ),
    profile(
        "--profiles",
        type=commands.EXISTING_FILE,
        multiple=True,
        help="TOML file with more profiles.",
    ),
    load(
        "--burstiness",
        metavar="SHAPE",
        type=commands.positive_number(or_inf="evenly spaced arrivals"),
        help="Arrivals at a rate: 1 Poisson (default), less for bursts, inf evenly spaced.",
    ),
    load(
        "--ramp",
        metavar="A:B[:SHAPE]",
        help="Change the rate from A to B, linear or exponential.",
    ),
    load(
        "--ramp-slots",
        help="Raise the requests in flight to -c over this time.",
        metavar="SECONDS",
        type=commands.positive_number(),
    ),
    load(
        "--duration",
        help="Send nothing after this time; -n is the maximum.",
        metavar="SECONDS",
        type=commands.positive_number(),
    ),
    load(
        "--warmup",
        metavar="auto|N",
        type=commands.integer(min=0, auto=True),
        help="Uncounted requests first. auto (default): like the load's until steady, before "
        "the first repeat; N: before each repeat; 0: none.",
    ),
    load(
        "--repeat",
        metavar="N",
        type=commands.integer(),
        default=1,
        help="Measure this often, for confidence intervals.",
        show_default=True,
    ),
    load(
        "--seed",
        metavar="N",
        type=commands.integer(min=0),
        default=0,
        help="Runs with the same seed send identical bytes.",
        show_default=True,
    ),
    load(
        "--sweep",
        metavar="OVER[=LOADS]",
        help="Run over concurrency or rate: concurrency=1..64, rate=1,2,4. Without LOADS it "
        "searches for them. Ends past the knee, or where --slo is missed.",
    ),
    load(
        "--depth",
        "depths",
        metavar="TOKENS,...",
        help="A run at each depth: that many tokens of context before every prompt, -c prompts at "
        "once, --repeat times (3). Default profile: depth.",
    ),
    load(
        "--depth-cached",
        is_flag=True,
        default=None,
        help="Send the contexts first, so that the prefix cache has them; measured apart.",
    ),
    load(
        "--trace",
        type=commands.EXISTING_FILE,
        help="Replay the times and lengths of a JSONL trace.",
    ),
    load(
        "--trace-speed",
        metavar="FACTOR",
        type=commands.positive_number(),
        help="Replay speed; 2 is twice as fast.",
    ),
    published(
        "--as-published",
        metavar="[STREAMS]",
        is_flag=False,
        flag_value="all",
        help="Send the loads of the figures published for what is deployed, and compare. STREAMS "
        "chooses by requests in flight: 16, or 1,16.",
    ),
    published(
        "--weights",
        metavar="ORG/NAME",
        help="The model that serves, by its id. Default: as the project or the server says.",
    ),
    published(
        "--variant", metavar="NAME", help="The variant that serves. Default: as the project says."
    ),
    published(
        "--nodes",
        metavar="N",
        type=commands.integer(),
        help="Sparks that serve. Default: as the project or the server says.",
    ),
    published(
        "--dry-run", is_flag=True, default=None, help="Print which loads these are; send nothing."
    ),
    prompts(
        "--sharegpt", type=commands.EXISTING_FILE, help="Take the prompts from a ShareGPT file."
    ),
    prompts("--turns", help="Questions per conversation.", metavar="N", type=commands.integer()),
    prompts(
        "--think-time",
        metavar="SECONDS",
        type=commands.non_negative_number,
        help="Pause between an answer and the next question.",
    ),
    prompts(
        "--shared-prefix",
        help="Length of a prefix that all prompts share.",
        metavar="N",
        type=commands.integer(),
    ),
    prompts(
        "--prefix-groups",
        help="Number of distinct shared prefixes.",
        metavar="N",
        type=commands.integer(),
    ),
    prompts(
        "--cache",
        type=click.Choice(["miss", "hit"]),
        default="miss",
        show_default=True,
        help="miss: prompts the prefix cache has never seen; hit: the same prompt every time.",
    ),
    prompts(
        "--tokenizer",
        type=commands.EXISTING_PATH,
        help="tokenizer.json, or the folder that holds it.",
    ),
    *commands.server_options(server),
    server(
        "--endpoint",
        type=click.Choice(["chat", "completions", "generate"]),
        default="chat",
        help="API to use; generate is SGLang's own.",
        show_default=True,
    ),
    server(
        "--ignore-eos/--no-ignore-eos",
        default=True,
        help="Force the length -o where supported.",
        show_default=True,
    ),
    *commands.request_options(server),
    measuring("--slo", metavar="LIMITS", help="Limits for goodput: any of ttft=MS,tpot=MS,e2e=MS."),
    measuring(
        "--count-tokens",
        type=click.Choice(["auto", "usage", "off"]),
        default="auto",
        show_default=True,
        help="How to count each event's tokens. auto: from the server's stream, else with a "
        "tokenizer; usage: from the stream only; off: with a tokenizer only.",
    ),
    measuring(
        "--metrics/--no-metrics",
        default=None,
        help="Read the server's /metrics. Default: if there.",
    ),
    measuring(
        "--power/--no-power", default=None, help="Read the nodes' GPU power. Default: if known."
    ),
    output(
        "--max-failures",
        default="0",
        show_default=True,
        metavar="N|N%",
        help="Exit with 1 if more requests fail.",
    ),
    output(
        "--output",
        type=commands.ANY_PATH,
        help="Default: benchmark_results/bench_PROFILE_TIME.json.",
    ),
    output(
        "--save-requests", is_flag=True, help="Write each request to a file beside it, for compare."
    ),
    *commands.output_options(output),
]


def run_flags(function: Callable[..., Any]) -> Any:
    """Add all options of a run, and the profile's name."""
    argument = click.argument("name", metavar="[PROFILE]", default="quick")
    flags = [argument, *RUN_OPTIONS]
    return reduce(lambda decorated, flag: flag(decorated), reversed(flags), function)


@click.command("run", cls=commands.SectionCommand, epilog=EPILOG)
@run_flags
@click.pass_context
def command(context: click.Context, /, **typed: Any) -> None:
    """Send a load to a server and measure it.

    PROFILE is a load by name (see `spark-bench profiles`); -n -i -o -r -c change single fields of
    it and keep the rest.
    """
    from spark_bench.cli.check import check_options
    from spark_bench.display.progress import choose_display
    from spark_bench.run.execute import execute

    chosen = {
        name
        for name in typed
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    options = check_options(typed, os.environ, chosen)
    # The key is only for the server: child processes (the sampler, ssh, git) need none.
    os.environ.pop(secret.VARIABLE, None)
    with choose_display(sys.stderr, quiet=options.output.quiet) as show:
        outcome = execute(options, show)
    for line in outcome.plan:
        click.echo(printable(line))
    # A result that could not be written is printed, so that it is not lost.
    as_json = options.output.as_json or len(outcome.written) < len(outcome.results)
    if not options.output.quiet:
        from spark_bench.display import tables, terminal

        stream = sys.stderr if as_json else sys.stdout
        terminal.print_all(tables.outcome_tables(outcome, options.load.sweep), stream)
        if options.output.history and outcome.results:
            _print_scores(outcome.results[-1], stream)
    for note in outcome.notes:
        commands.print_message(note)
    if as_json:
        from spark_bench.results.codec import encode_result

        for result in outcome.results:
            click.echo(json_text(encode_result(result)), nl=False)
    if outcome.interrupted:
        raise click.exceptions.Exit(commands.INTERRUPTED)
    options.output.max_failures.check(outcome.failed, outcome.total)
    if outcome.misplaced:
        raise click.exceptions.Exit(MISPLACED)


def _print_scores(result: Result, stream: TextIO) -> None:
    """The scores of what was measured, from the history: how right its answers were."""
    from spark_bench.history.database import HistoryStore, default_store
    from spark_bench.history.history_tables import score_sentences

    with suppress(BadInput, BenchError), HistoryStore(default_store()) as store:
        if scores := "; ".join(score_sentences(result, store)):
            click.echo(f"quality     {printable(scores)}", file=stream)

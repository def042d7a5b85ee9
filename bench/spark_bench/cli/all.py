"""`spark-bench all`: run the suite that was asked for; its outcome decides the exit code."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from spark_bench import INVENTORY, PROJECT, errors, secret
from spark_bench.cli import commands
from spark_bench.printable import json_text, printable

EPILOG = """
\b
Examples:
  spark-bench all --dry-run              the plan, and how long it takes
  spark-bench all --models 1,3,qwen72b --yes
  spark-bench all --single-node --profile medium --repeat 3
  spark-bench all --models qwen7b --vary tp=1,2 --vary mem_fraction=0.80,0.85
  spark-bench all --models qwen38-27b --vary variant=eagle,dspark
  spark-bench all --models qwen38-27b --vary kv_cache_dtype=auto,fp8_e4m3 \
    --quality arith,tools
  spark-bench all --resume benchmark_results/all_models_20261123_140000
  spark-bench all --yes --csv >results.csv

\b
A matrix FILE is TOML: [vary] with lists, such as tp = [1, 2], gives every
combination; each [[variant]] table of settings is one more. Names are the
project's settings; tp and pp stand for tensor_parallel and
pipeline_parallel.

\b
Each model comes out as one of
  OK              measured
  WRONG_ANSWERS   measured or refused by the deploy's probes: its answers
                  can't be used, so it is ranked last
  CONFIG_FAILED   the deploy refused it before changing anything
  STARTUP_FAILED  it was not served, not in time, or not as requested
  BENCH_FAILED    the run failed, took too long, or requests failed
  NO_OUTPUT       no request was answered
  SKIPPED         not tried; the reason stands beside it

\b
Exit codes:
  0    every model that was not skipped is OK
  1    some are not, or the previous model could not be served again
  2    an option or a file is invalid, or no model is left; nothing was done
  130  stopped by Ctrl-C; what was done is written, --resume continues
"""

models, load, quality, how, out = (
    commands.section_option("Models"),
    commands.section_option("Load"),
    commands.section_option("Quality"),
    commands.section_option("How"),
    commands.section_option("Output"),
)
OPTIONS = [
    models("--models", metavar="N,...", help="Numbers, aliases or ids.  [default: all]"),
    models("--single-node", is_flag=True, help="Only on the head, those that fit."),
    models("--multi-node", is_flag=True, help="On all nodes of the inventory."),
    models(
        "--skip-token/--no-skip-token",
        default=None,
        help="Skip gated models.  [default: without a Hugging Face token]",
    ),
    models(
        "--vary", metavar="NAME=V,...", multiple=True, help="Try each of these values of a setting."
    ),
    models("--matrix", type=commands.EXISTING_FILE, help="Take the variants from a TOML file."),
    models(
        "--project",
        type=commands.ANY_PATH,
        default=PROJECT,
        show_default=True,
        help="The project's checkout.",
    ),
    models(
        "--inventory",
        type=commands.ANY_PATH,
        default=INVENTORY,
        show_default=True,
        help="The inventory with its nodes.",
    ),
    load(
        "--profile",
        metavar="NAME",
        default="short",
        show_default=True,
        help="See `spark-bench profiles`.",
    ),
    load(
        "-n",
        "--num-prompts",
        metavar="N",
        type=commands.integer(),
        help="Number of requests to send.",
    ),
    load(
        "-i",
        "--input-len",
        metavar="N",
        type=commands.integer(),
        help="Tokens per prompt, exactly.",
    ),
    load("-o", "--output-len", metavar="N", type=commands.integer(), help="Tokens per answer."),
    load(
        "-r",
        "--request-rate",
        metavar="RATE",
        type=commands.positive_number(or_inf="as fast as possible"),
        help="Requests per second, or inf.",
    ),
    load(
        "-c",
        "--concurrency",
        metavar="N",
        type=commands.integer(none=True),
        help="Most requests in flight, or none.",
    ),
    load(
        "--profiles",
        type=commands.EXISTING_FILE,
        multiple=True,
        help="TOML file with more profiles.",
    ),
    load(
        "--repeat",
        metavar="N",
        type=commands.integer(),
        default=1,
        show_default=True,
        help="Measure each this often.",
    ),
    load(
        "--api-key-file", type=commands.EXISTING_FILE, help="Default: $SPARK_BENCH_API_KEY, if set."
    ),
    quality(
        "--quality",
        metavar="TASK,...",
        help="Score each model too: tasks of `spark-bench quality`.",
    ),
    quality(
        "--quality-limit",
        metavar="N",
        type=commands.integer(),
        help="Send only the first N items of each task.",
    ),
    quality(
        "--quality-thinking",
        type=click.Choice(["default", "on", "off"]),
        default="default",
        show_default=True,
        help="What to request of the chat template.",
    ),
    quality(
        "--quality-loss",
        metavar="POINTS",
        type=commands.positive_number(),
        default=5.0,
        show_default=True,
        help="A variant that is proven to score this much less than its model's best is "
        "WRONG_ANSWERS.",
    ),
    quality(
        "--quality-timeout",
        metavar="SECONDS",
        type=commands.positive_number(),
        default=1800.0,
        show_default=True,
        help="Limit of each task of each model.",
    ),
    how("--dry-run", is_flag=True, help="Print the plan; change nothing."),
    how("--yes", is_flag=True, help="Don't ask before the first deploy."),
    how(
        "--resume",
        metavar="FOLDER",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Resume the run in this folder: keep what is measured, try the rest again.",
    ),
    how(
        "--keep-going/--fail-fast",
        default=True,
        help="What to do after a failed model.  [default: keep going]",
    ),
    how(
        "--restore/--no-restore",
        default=True,
        help="At the end, serve again what was served before.  [default: restore]",
    ),
    how(
        "--startup-timeout",
        metavar="SECONDS",
        type=commands.positive_number(),
        default=900.0,
        show_default=True,
        help="Limit of each model's deploy, from the end of its downloads.",
    ),
    how(
        "--bench-timeout",
        metavar="SECONDS",
        type=commands.positive_number(),
        default=600.0,
        show_default=True,
        help="Limit of each model's run, all repeats.",
    ),
    how(
        "--max-failures",
        metavar="N|N%",
        default="0",
        show_default=True,
        help="A model with more failed requests is BENCH_FAILED.",
    ),
    out("--csv", is_flag=True, help="Print results.csv instead of the summary."),
    out("--json", "as_json", is_flag=True, help="Print results.json instead."),
    out(
        "--markdown",
        is_flag=True,
        help="Print Markdown instead, with pp/tg rows as people publish them.",
    ),
    out("--output-dir", type=commands.ANY_PATH, help="Default: benchmark_results/all_models_TIME."),
]
FAILED = 1


def all_flags(function: Any) -> Any:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command("all", cls=commands.SectionCommand, epilog=EPILOG)
@all_flags
@click.pass_context
def command(context: click.Context, /, **typed: Any) -> int:
    """Measure every model of the project's catalog: deploy, check, run, record, next."""
    from spark_bench.cli.check_suite import check_suite_options
    from spark_bench.results.suite_results import encode_results
    from spark_bench.suite import child, job, plan, preview, runner, suite_markdown, suite_tables

    unset = (click.core.ParameterSource.DEFAULT, None)
    given = {name for name in typed if context.get_parameter_source(name) not in unset}
    options = check_suite_options(typed, given, os.environ)
    # The key is only for the server: the project's commands need none.
    os.environ.pop(secret.VARIABLE, None)
    cases = plan.plan_suite(options)
    load = job.describe_job(options, cases).load
    earlier, done = preview.earlier_estimates(options, load), job.finished_names(options, cases)
    text = preview.describe_plan(cases, options, load, earlier, done)
    click.echo(printable(text, lines=True), err=not typed["dry_run"])
    if typed["dry_run"]:
        return 0
    if not typed["yes"]:
        if not sys.stdin.isatty():
            raise errors.BadInput(
                "there is no terminal to ask whether to go on: give --yes, or --dry-run"
            )
        if not click.confirm("Each model replaces the one before. Go on?", err=True):
            raise click.Abort
    progress = child.SuiteProgress(sys.stderr)
    with _interrupt_on_signals(), runner.begin_suite(options, cases, progress) as run:
        results, interrupted = runner.run_suite(run)
    # The requested output goes to stdout, the files' location to stderr.
    if typed["csv"]:
        text = suite_tables.rows_csv(results.results)
    elif typed["as_json"]:
        text = json_text(encode_results(results))
    elif typed["markdown"]:
        text = suite_markdown.render_markdown(results, options.folder)
    else:
        text = suite_tables.render_summary(results)
    click.echo(text, nl=False)
    commands.print_message(f"written to {options.folder}")
    if interrupted:
        commands.print_message(
            f"to resume: spark-bench all --resume {shlex.quote(str(options.folder))}"
        )
        return commands.INTERRUPTED
    good = all(row.status in ("OK", "SKIPPED") for row in results.results)
    return 0 if good and runner.NOT_RESTORED not in results.restored else FAILED


@contextmanager
def _interrupt_on_signals() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP (the terminal was closed) like Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

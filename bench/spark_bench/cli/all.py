"""`spark-bench all`: from what was typed to a suite, and from its results to an exit code."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from spark_bench import INVENTORY, PROJECT
from spark_bench.cli.commands import INTERRUPTED, SectionCommand, print_message, section_option
from spark_bench.cli.option_types import ANY_PATH, EXISTING_FILE, integer, positive_number
from spark_bench.errors import BadInput
from spark_bench.printable import json_text, printable

if TYPE_CHECKING:
    from spark_bench.results.suite_results import SuiteResults

EPILOG = """
\b
Examples:
  spark-bench all --dry-run              the plan, and how long it takes
  spark-bench all --models 1,3,qwen72b --yes
  spark-bench all --single-node --profile medium --repeat 3
  spark-bench all --models qwen7b --vary tp=1,2 --vary mem_fraction=0.80,0.85
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

models, load, how, out = (
    section_option("Models"),
    section_option("Load"),
    section_option("How"),
    section_option("Output"),
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
    models("--matrix", type=EXISTING_FILE, help="Take the variants from a TOML file."),
    models(
        "--project",
        type=ANY_PATH,
        default=PROJECT,
        show_default=True,
        help="The project's checkout.",
    ),
    models(
        "--inventory",
        type=ANY_PATH,
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
    load("-n", "--num-prompts", metavar="N", type=integer(), help="Number of requests to send."),
    load("-i", "--input-len", metavar="N", type=integer(), help="Tokens per prompt, exactly."),
    load("-o", "--output-len", metavar="N", type=integer(), help="Tokens per answer."),
    load(
        "-r",
        "--request-rate",
        metavar="RATE",
        type=positive_number(or_inf="as fast as possible"),
        help="Requests per second, or inf.",
    ),
    load(
        "-c",
        "--concurrency",
        metavar="N",
        type=integer(none=True),
        help="Most requests in flight, or none.",
    ),
    load("--profiles", type=EXISTING_FILE, multiple=True, help="TOML file with more profiles."),
    load(
        "--repeat",
        metavar="N",
        type=integer(),
        default=1,
        show_default=True,
        help="Measure each this often.",
    ),
    load("--api-key-file", type=EXISTING_FILE, help="Default: $SPARK_BENCH_API_KEY, if set."),
    how("--dry-run", is_flag=True, help="Print the plan; change nothing."),
    how("--yes", is_flag=True, help="Don't ask before the first deploy."),
    how(
        "--resume",
        metavar="FOLDER",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Resume the run in this folder: keep what is OK, try the rest again.",
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
        type=positive_number(),
        default=900.0,
        show_default=True,
        help="Limit of each model's deploy, from the end of its downloads.",
    ),
    how(
        "--bench-timeout",
        metavar="SECONDS",
        type=positive_number(),
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
    out("--output-dir", type=ANY_PATH, help="Default: benchmark_results/all_models_TIME."),
]
FAILED = 1


def all_flags(function: Any) -> Any:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command("all", cls=SectionCommand, epilog=EPILOG)
@all_flags
@click.pass_context
def command(context: click.Context, /, **typed: Any) -> int:
    """Measure every model of the project's catalog: deploy, check, run, record, next."""
    import os

    from click.core import ParameterSource

    from spark_bench.cli.check_suite import check_suite_options
    from spark_bench.secret import VARIABLE
    from spark_bench.suite.child import SuiteProgress
    from spark_bench.suite.job import describe_job, finished_names
    from spark_bench.suite.plan import plan_suite
    from spark_bench.suite.preview import describe_plan, earlier_estimates
    from spark_bench.suite.runner import NOT_RESTORED, begin_suite, run_suite

    unset = (ParameterSource.DEFAULT, None)
    given = {name for name in typed if context.get_parameter_source(name) not in unset}
    options = check_suite_options(typed, given, os.environ)
    # The key is for the server: the project's commands need none.
    os.environ.pop(VARIABLE, None)
    cases = plan_suite(options)
    load = describe_job(options, cases).load
    earlier = earlier_estimates(options, load)
    plan = describe_plan(cases, options, load, earlier, finished_names(options, cases))
    click.echo(printable(plan, lines=True), err=not typed["dry_run"])
    if typed["dry_run"]:
        return 0
    if not typed["yes"]:
        if not sys.stdin.isatty():
            raise BadInput("there is no terminal to ask whether to go on: give --yes, or --dry-run")
        if not click.confirm("Each model replaces the one before. Go on?", err=True):
            raise click.Abort
    with _interrupt_on_signals(), begin_suite(options, cases, SuiteProgress(sys.stderr)) as run:
        results, interrupted = run_suite(run)
    _print_results(results, options.folder, typed)
    if interrupted:
        print_message(f"to resume: spark-bench all --resume {shlex.quote(str(options.folder))}")
        return INTERRUPTED
    good = all(row.status in ("OK", "SKIPPED") for row in results.results)
    return 0 if good and NOT_RESTORED not in results.restored else FAILED


@contextmanager
def _interrupt_on_signals() -> Iterator[None]:
    """SIGTERM, and a terminal that is closed, end it as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_results(results: SuiteResults, folder: Path, typed: Mapping[str, Any]) -> None:
    """To stdout what was asked for; where the files are to stderr."""
    from spark_bench.results.suite_results import encode_results
    from spark_bench.suite.rows import rows_csv
    from spark_bench.suite.suite_tables import render_markdown, render_summary

    if typed["csv"]:
        click.echo(rows_csv(results.results), nl=False)
    elif typed["as_json"]:
        click.echo(json_text(encode_results(results)), nl=False)
    elif typed["markdown"]:
        click.echo(render_markdown(results, folder), nl=False)
    else:
        click.echo(render_summary(results), nl=False)
    print_message(f"written to {folder}")

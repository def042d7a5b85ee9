"""`spark-bench all`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spark_bench.cli.flags import ANY, FILE
from spark_bench.cli.sections import SectionCommand, under
from spark_bench.cli.types import positive, whole

EPILOG = """
\b
Examples:
  spark-bench all --dry-run              what would be done, and how long it takes
  spark-bench all --models 1,3,qwen72b --yes
  spark-bench all --single-node --profile medium --repeat 3
  spark-bench all --models qwen7b --vary tp=1,2 --vary mem_fraction=0.80,0.85
  spark-bench all --resume benchmark_results/all_models_20261123_140000
  spark-bench all --yes --csv >results.csv

\b
A matrix FILE is TOML: [vary] with lists, such as tp = [1, 2], gives every
combination; each [[variant]] table of settings is one more. Names are the
project's settings; tp and pp are short for its tensor_parallel and
pipeline_parallel.

\b
Each model comes out as one of
  OK              measured
  CONFIG_FAILED   the deploy refused it before anything was changed
  STARTUP_FAILED  it was not served, or not in time, or another model was
  BENCH_FAILED    the run failed, took too long, or requests failed
  NO_OUTPUT       no request was answered
  SKIPPED         not tried, for a reason that stands beside it

\b
Exit codes:
  0    every model that was not skipped is OK
  1    some are not, or the model served before could not be served again
  2    an option or a file can't be used, or no model is left; nothing was done
  130  stopped by Ctrl-C; what was done is written, --resume goes on
"""

models, load, how, out = under("Models"), under("Load"), under("How"), under("Output")
OPTIONS = [
    models("--models", metavar="N,...", help="Numbers, aliases or ids.  [default: all]"),
    models("--single-node", is_flag=True, help="On the head alone, those that fit."),
    models("--multi-node", is_flag=True, help="On all nodes of the inventory."),
    models("--skip-token/--no-skip-token", default=None,
           help="Skip gated models.  [default: without a Hugging Face token]"),
    models("--vary", metavar="NAME=V,...", multiple=True, help="Try these values of a setting."),
    models("--matrix", type=FILE, help="The same from a TOML file."),
    models("--project", type=ANY, default=Path("."), show_default=True, help="Its checkout."),
    models("--inventory", type=ANY, default=Path("inventories/spark.py"), show_default=True,
           help="Its nodes."),
    load("--profile", metavar="NAME", default="short", show_default=True,
         help="See `spark-bench profiles`."),
    load("-n", "--num-prompts", metavar="N", type=whole(), help="Requests to send."),
    load("-i", "--input-len", metavar="N", type=whole(), help="Tokens a prompt, exactly."),
    load("-o", "--output-len", metavar="N", type=whole(), help="Tokens an answer."),
    load("-r", "--request-rate", metavar="RATE", type=positive(or_inf="as fast as possible"),
         help="Requests a second, or inf."),
    load("-c", "--concurrency", metavar="N", type=whole(none=True),
         help="Requests in flight at most, or none."),
    load("--profiles", type=FILE, multiple=True, help="TOML file with more profiles."),
    load("--repeat", metavar="N", type=whole(), default=1, show_default=True,
         help="Measure each so often."),
    load("--api-key-file", type=FILE, help="Default: $SPARK_BENCH_API_KEY, if it is set."),
    how("--dry-run", is_flag=True, help="Print the plan; touch nothing."),
    how("--yes", is_flag=True, help="Don't ask before the first deploy."),
    how("--resume", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Go on with the run in this folder: what is OK is kept, the rest is tried again."),
    how("--keep-going/--fail-fast", default=True, help="After a failed model.  [default: go on]"),
    how("--restore/--no-restore", default=True,
        help="At the end serve what was served before.  [default: restore]"),
    how("--startup-timeout", metavar="SECONDS", type=positive(), default=900.0, show_default=True,
        help="For each model's deploy, counted from the end of its downloads."),
    how("--bench-timeout", metavar="SECONDS", type=positive(), default=600.0, show_default=True,
        help="For each model's run, all repeats."),
    how("--max-failures", metavar="N|N%", default="0", show_default=True,
        help="More failed requests than that are BENCH_FAILED."),
    out("--csv", is_flag=True, help="results.csv to stdout, in place of the summary."),
    out("--json", "as_json", is_flag=True, help="results.json to stdout."),
    out("--markdown", is_flag=True, help="To stdout, with pp/tg rows as people publish them."),
    out("--output-dir", type=ANY, help="Default: benchmark_results/all_models_TIME."),
]  # fmt: skip


def options(function: Any) -> Any:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command("all", cls=SectionCommand, epilog=EPILOG)
@options
@click.pass_context
def command(context: click.Context, /, **typed: Any) -> int:
    """Measure every model of the project's catalogue: deploy, check, run, record, next."""
    import os

    from spark_bench.cli.every import carry_out, checked
    from spark_bench.secret import VARIABLE

    given = {name for name in typed if _given(context, name)}
    asked = checked(typed, given, os.environ)
    # The key is for the server: the project's commands need none.
    os.environ.pop(VARIABLE, None)
    return carry_out(asked, typed)


def _given(context: click.Context, name: str) -> bool:
    from click.core import ParameterSource

    return context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)

"""`spark-bench run`."""

from __future__ import annotations

from typing import Any

import click

from spark_bench.cli.flags import flags
from spark_bench.cli.sections import SectionCommand

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
  1    more of them failed, the server can't be reached, or the result
       can't be written where it should: it is printed then
  2    an option, a setting or a file can't be used; nothing was sent
  130  stopped by Ctrl-C; what was measured is written, marked partial
"""


@click.command("run", cls=SectionCommand, epilog=EPILOG)
@flags
def command(**typed: Any) -> None:
    """Send a load to a server and measure it.

    PROFILE is a load by name (see `spark-bench profiles`); -n -i -o -r -c change single fields of
    it and keep the rest.
    """
    import os

    from spark_bench.cli.check import options
    from spark_bench.cli.finish import carry_out
    from spark_bench.secret import VARIABLE

    checked = options(typed, os.environ)
    # The key is for the server: what is started from here (the sampler, ssh, git) needs none.
    os.environ.pop(VARIABLE, None)
    carry_out(checked)

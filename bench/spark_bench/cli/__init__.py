"""`spark-bench`: its commands and their options. Importing it costs no more than click."""

import click

from spark_bench import __version__
from spark_bench.cli.commands import LazyCommands

# A command's module is imported only when the command is used.
main = LazyCommands(
    "spark-bench",
    modules={
        "run": "spark_bench.cli.run",
        "quality": "spark_bench.cli.quality",
        "all": "spark_bench.cli.all",
        "verify": "spark_bench.cli.verify",
        "profiles": "spark_bench.cli.profiles",
        "compare": "spark_bench.cli.compare",
        "report": "spark_bench.cli.report",
        "history": "spark_bench.cli.history",
    },
    shorts={
        "run": "Send a load to a server and measure it.",
        "quality": "Score the answers of what serves.",
        "all": "Deploy and measure every model in turn.",
        "verify": "Check how accurately this machine measures.",
        "profiles": "List the load profiles.",
        "compare": "Compare runs: differences, significance, CI gates.",
        "report": "Render results as one HTML page.",
        "history": "List, search and plot past results.",
    },
    help="Measure an OpenAI-compatible LLM server, from what the kernel saw.",
)
click.version_option(__version__, prog_name="spark-bench")(main)

"""`spark-bench profiles`."""

from __future__ import annotations

from pathlib import Path

import click

from spark_bench.cli.flags import FILE
from spark_bench.printable import json_text


@click.command("profiles")
@click.option("--profiles", "files", type=FILE, multiple=True, help="A TOML file of your own.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(files: tuple[Path, ...], as_json: bool) -> None:
    """List the profiles that `run` knows, yours among them."""
    import msgspec

    from spark_bench.load.profiles import catalogue

    profiles = list(catalogue(files).values())
    if as_json:
        click.echo(json_text(msgspec.json.format(msgspec.json.encode(profiles))))
        return
    from spark_bench.display.load_tables import profile_table
    from spark_bench.display.terminal import print_all

    print_all([profile_table(profiles)])

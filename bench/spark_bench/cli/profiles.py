"""`spark-bench profiles`."""

from pathlib import Path

import click

from spark_bench.cli.commands import EXISTING_FILE
from spark_bench.printable import json_text


@click.command("profiles")
@click.option(
    "--profiles", "files", type=EXISTING_FILE, multiple=True, help="TOML file with more profiles."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[Path, ...], as_json: bool) -> None:
    """List the load profiles that `run` knows, yours included."""
    import msgspec

    from spark_bench.load.profile import profile_catalog

    profiles = list(profile_catalog(files).values())
    if as_json:
        click.echo(json_text(msgspec.json.format(msgspec.json.encode(profiles))))
        return
    from spark_bench.display import tables, terminal

    terminal.print_all([tables.profile_table(profiles)])

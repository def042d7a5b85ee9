"""`spark-cluster init`: ask for the nodes, look at them, write an inventory."""

import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from spark_cluster import prompts
from spark_cluster.choice import find_model_or_fail, relative_path, write_choice, write_file
from spark_cluster.commands import ClusterError
from spark_cluster.inventory_text import InventoryText
from spark_cluster.printable import all_printable
from spark_cluster.project import INVENTORY, Project, format_finding, project_root
from spark_cluster.table import table

# The checks of a deploy, among them what the nodes reach of each other.
SECONDS = 240
# pyinfra takes an inventory's name for a group of its nodes.
GROUPS = ("all", "head", "workers", "self")
HEAD = ("node", "SSH", "GPU", "driver", "Docker", "hf_cache", "free", "python", "QSFP ports Up")
COLORS = {"error": "red", "warning": "yellow"}
QUESTION = "Create an API key? Without one, anyone who can reach the API may use it"
NETWORKS = 'api_networks=["192.168.1.0/24"]'


@click.command("init")
@click.option("--head", metavar="NAME", help="Rank 0: what `ssh NAME` reaches, or @local.")
@click.option("--worker", "workers", metavar="NAME", multiple=True, help="Rank 1, and so on.")
@click.option("--user", metavar="NAME", help="SSH's user on the nodes.")
@click.option("--hf-cache", metavar="FOLDER", help="HF_HOME on the nodes.")
@click.option("--model", metavar="MODEL", help="Number, alias, id or path.")
@click.option(
    "--data",
    "more",
    metavar="NAME=VALUE",
    multiple=True,
    help="A further setting, or one of pyinfra's (ssh_port=2222).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The inventory to write.  [default: inventories/spark.py]",
)
@click.option(
    "--make-key",
    is_flag=True,
    help="Create an API key in a 0600 file outside the project.",
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; use defaults for what is not given.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def command(
    head: str | None,
    workers: tuple[str, ...],
    user: str | None,
    hf_cache: str | None,
    model: str | None,
    more: tuple[str, ...],
    output: Path | None,
    make_key: bool,
    yes: bool,
    force: bool,
) -> int:
    """Ask for the nodes, read them, and write an inventory that is ready to deploy.

    Nodes are only read. Nothing is written if a node can't be reached, and no file is overwritten
    unless you agree. Exit code 1 also if a deploy would still be refused; the cures are printed.
    """  # fmt: skip
    root = project_root(Path.cwd())
    file = _output(root, output)
    ask = prompts.on_terminal() and not yes
    _may_write(file, ask=ask, force=force)
    project = Project(root, file)
    inventory = prompts.ask_inventory(
        project, head=head, workers=workers, user=user, hf_cache=hf_cache, model=model,
        more=more, ask=ask,
    )  # fmt: skip
    open_to_all = inventory.reachable and not inventory.data.get("api_key_file")
    if open_to_all and (make_key or (ask and prompts.confirm(QUESTION))):
        inventory = replace(
            inventory, data={**inventory.data, "api_key_file": _key_file(file.stem)}
        )
    click.echo(f"reading {', '.join([inventory.head, *inventory.workers])} …", err=True)
    probe = all_printable(_probe(project, inventory))
    click.echo(nodes_table(probe["nodes"]))
    if silent := [node for node in probe["nodes"] if node["lost"]]:
        lines = [f"{n['name']}: {n['lost']} -> {n['cure']}" for n in silent]
        raise ClusterError("\n".join(["nothing was written:", *lines]))
    _write(project, inventory)
    return _tell(project, inventory, probe["findings"])


def _key_file(name: str) -> str:
    """A file with a key, made where there is none yet; never in the project, which git may take."""
    file = Path.home() / ".config" / "spark-serving" / f"{name}.key"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as key_file:
            key_file.write(f"{secrets.token_hex(32)}\n")
        click.echo(f"a new key is in {file}", err=True)
    except FileExistsError:
        click.echo(f"using the key in {file}", err=True)
    except OSError as error:
        raise ClusterError(f"{file} can't be written: {error.strerror}") from None
    return f"~/{file.relative_to(Path.home())}"


def _output(root: Path, output: Path | None) -> Path:
    file = root / INVENTORY if output is None else output.absolute()
    if file.suffix != ".py" or file.stem in GROUPS:
        raise click.UsageError(
            f"--output {output}: give a file that ends in .py, other than "
            + ", ".join(f"{name}.py" for name in GROUPS)
        )
    if not file.parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {file.parent}")
    return file


def _may_write(file: Path, *, ask: bool, force: bool) -> None:
    """Come back only where the file may be (over)written."""
    if force or not file.exists():
        return
    if ask:
        click.confirm(f"{relative_path(file)} already exists. Overwrite it?", abort=True)
        return
    raise ClusterError(
        f"{relative_path(file)} already exists: overwrite it with --force, or write --output FILE"
    )


def _probe(project: Project, inventory: InventoryText) -> dict[str, Any]:
    """What the nodes say, by way of an inventory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="spark-cluster-") as folder:
        draft = Path(folder, project.inventory.name)
        draft.write_text(inventory.text(str(draft)))
        data = {
            "inventory": str(draft),
            "group_data": str(project.inventory.parent / "group_data"),
            "model": inventory.model,
        }
        probe: dict[str, Any] = project.fetch("probe", data, hosts="@local", seconds=SECONDS)
    return probe


def _write(project: Project, inventory: InventoryText) -> None:
    """The inventory; and the model also where group data would win over it."""
    before = project.inventory.read_bytes() if project.inventory.exists() else None
    write_file(project.inventory, inventory.text(relative_path(project.inventory)).encode())
    try:
        others = write_choice(project, find_model_or_fail(project, inventory.model))
    except ClusterError:
        if before is None:
            project.inventory.unlink(missing_ok=True)
        else:
            write_file(project.inventory, before)
        raise
    files = [project.inventory, *(change.file for change in others)]
    click.echo(f"\nwritten: {', '.join(map(relative_path, files))}")


def _tell(project: Project, inventory: InventoryText, findings: list[dict[str, str]]) -> int:
    """What stands in the way as yet, and what comes next; the exit code."""
    if os.environ.get("HF_TOKEN"):
        click.echo("HF_TOKEN is set in this shell: deploys use it, and no file stores it")
    refused, lines = list_problems(findings)
    file = relative_path(project.inventory)
    for line in lines:
        click.echo(line.replace("INVENTORY", str(file)))
    option = "" if project.inventory == project.root / INVENTORY else f" -i {file}"
    if refused:
        click.echo("\nA deploy would still be refused. Fix the errors above, then run:")
        click.echo(f"  spark-cluster check{option}")
        return 1
    click.echo(f"next:    pyinfra -y {file} deploy.py")
    if inventory.reachable:
        click.echo(f"then:    pyinfra -y {file} deploys/firewall.py --data '{NETWORKS}'")
        click.echo("         opens the nodes to each other, and the API to those networks alone")
    return 0


def nodes_table(nodes: Sequence[Mapping[str, Any]]) -> str:
    """A line for each node."""
    return table(HEAD, [_node_row(node) for node in nodes], right=("free",))


def list_problems(findings: Sequence[Mapping[str, str]]) -> tuple[bool, list[str]]:
    """Whether a deploy would be refused; and every error and warning, with its cure."""
    lines = [_colored_finding(finding) for finding in findings if finding["level"] in COLORS]
    return any(finding["level"] == "error" for finding in findings), lines


def _colored_finding(finding: Mapping[str, str]) -> str:
    """As the project's own findings are probe."""
    level = click.style(f"{finding['level']:>7}", fg=COLORS[finding["level"]])
    return f"{level}  {format_finding(finding)}"


def _node_row(node: Mapping[str, Any]) -> list[str]:
    if node["lost"]:
        return [node["name"], click.style("no", fg="red"), *[""] * (len(HEAD) - 2)]
    free = node["free_bytes"]
    return [
        node["name"],
        "yes",
        node["gpu"],
        node["driver"],
        node["docker"],
        node["hf_cache"],
        "" if free is None else f"{free / 1e9:.0f} GB",
        node["python"],
        ", ".join(node["ports"]) or "none",
    ]

"""`spark-cluster init`: ask for the nodes, look at them, write an inventory."""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from spark_cluster import asking
from spark_cluster.choice import choose, model_of, shown, write
from spark_cluster.commands import ClusterError
from spark_cluster.printable import all_printable
from spark_cluster.project import INVENTORY, Project, root_of
from spark_cluster.seen import problems, seen
from spark_cluster.written import Wanted

# The checks of a deploy, among them what the nodes reach of each other.
SECONDS = 240
# pyinfra takes an inventory's name for a group of its nodes.
GROUPS = ("all", "head", "workers", "self")
QUESTION = "Create a key for the API? Without one, anyone who can reach it may use it"
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
    help="Create a key for the API, in a 0600 file outside the project.",
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: what is not given has its default.")
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
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
    """Ask for the nodes, look at them, and write an inventory that deploys as it is.

    Nodes are only read. Nothing is written where a node can't be reached, and no file is
    overwritten without being asked. Exit code 1 also where a deploy would be refused as yet; what
    mends it is then said.
    """  # fmt: skip
    root = root_of(Path.cwd())
    file = _output(root, output)
    ask = asking.terminal() and not yes
    _may_write(file, ask=ask, force=force)
    project = Project(root, file)
    wanted = asking.wanted(
        project, head=head, workers=workers, user=user, hf_cache=hf_cache, model=model,
        more=more, ask=ask,
    )  # fmt: skip
    open_to_all = wanted.reachable and not wanted.data.get("api_key_file")
    if open_to_all and (make_key or (ask and asking.agreed(QUESTION))):
        wanted = replace(wanted, data={**wanted.data, "api_key_file": _key_file(file.stem)})
    click.echo(f"looking at {', '.join([wanted.head, *wanted.workers])} …", err=True)
    told = all_printable(_probe(project, wanted))
    click.echo(seen(told["nodes"]))
    if silent := [node for node in told["nodes"] if node["lost"]]:
        lines = [f"{n['name']}: {n['lost']} -> {n['cure']}" for n in silent]
        raise ClusterError("\n".join(["nothing was written:", *lines]))
    _write(project, wanted)
    return _tell(project, wanted, told["findings"])


def _key_file(name: str) -> str:
    """A file with a key, made where there is none yet; never in the project, which git may take."""
    file = Path.home() / ".config" / "spark-serving" / f"{name}.key"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(f"{secrets.token_hex(32)}\n")
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
        click.confirm(f"{shown(file)} is there already. Overwrite it?", abort=True)
        return
    raise ClusterError(
        f"{shown(file)} is there already: --force overwrites it, --output FILE writes another"
    )


def _probe(project: Project, wanted: Wanted) -> dict[str, Any]:
    """What the nodes say, by way of an inventory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="spark-cluster-") as folder:
        draft = Path(folder, project.inventory.name)
        draft.write_text(wanted.text(str(draft)))
        asked = {
            "inventory": str(draft),
            "group_data": str(project.inventory.parent / "group_data"),
            "model": wanted.model,
        }
        told: dict[str, Any] = project.ask("probe", asked, hosts="@local", seconds=SECONDS)
    return told


def _write(project: Project, wanted: Wanted) -> None:
    """The inventory; and the model also where group data would win over it."""
    before = project.inventory.read_bytes() if project.inventory.exists() else None
    write(project.inventory, wanted.text(shown(project.inventory)).encode())
    try:
        others = choose(project, model_of(project, wanted.model))
    except ClusterError:
        if before is None:
            project.inventory.unlink(missing_ok=True)
        else:
            write(project.inventory, before)
        raise
    click.echo(
        f"\nwritten: {', '.join(shown(f) for f in (project.inventory, *(c.file for c in others)))}"
    )


def _tell(project: Project, wanted: Wanted, findings: list[dict[str, str]]) -> int:
    """What stands in the way as yet, and what comes next; the exit code."""
    if os.environ.get("HF_TOKEN"):
        click.echo("HF_TOKEN is set here: deploys use it, no file holds it")
    wrong, lines = problems(findings)
    file = shown(project.inventory)
    for line in lines:
        click.echo(line.replace("INVENTORY", str(file)))
    option = "" if project.inventory == project.root / INVENTORY else f" -i {file}"
    if wrong:
        click.echo(f"\na deploy would be refused as yet. Again: spark-cluster check{option}")
        return 1
    click.echo(f"next:    pyinfra -y {file} deploy.py")
    if wanted.reachable:
        click.echo(f"then:    pyinfra -y {file} deploys/firewall.py --data '{NETWORKS}'")
        click.echo("         lets in the nodes, and those networks to the API; nobody else")
    return 0

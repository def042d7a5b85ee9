"""`spark-cluster init`: ask for the nodes, read them, write the text of an inventory."""

import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from spark_cluster import choice, commands, printable
from spark_cluster.project import INVENTORY, Project, format_finding, project_root

# Names, addresses, and pyinfra's @local; users and ports have settings of their own.
_NODE = re.compile(r"(@local|@?[A-Za-z0-9][A-Za-z0-9_.:/-]*)\Z")
OPTIONS = {"model": "--model", "hf_cache": "--hf-cache", "ssh_user": "--user"}
# Settings whose value is itself a secret; *_file and ssh_key only name files.
_SECRET = re.compile(r"password|secret|token|api_key|passphrase", re.I)
_TEXT = '''\
"""{title}: written by spark-cluster init.

    pyinfra -y {file} deploy.py

The head is rank 0 and answers the API; workers are ranks 1, 2, … in this order. docs/settings.md
lists every setting.
"""

SETTINGS = {{
{settings}
}}

head = ([{head}], SETTINGS)
workers = ([{workers}], SETTINGS)
'''


@dataclass(frozen=True)
class InventoryText:
    """What to write into the inventory; data: further settings that all nodes share."""

    head: str
    workers: tuple[str, ...]
    model: str
    hf_cache: str
    user: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        user = {"ssh_user": self.user} if self.user else {}
        return {"model": self.model, "hf_cache": self.hf_cache, **user, **self.data}

    @property
    def reachable(self) -> bool:
        """Whether the API of this group can be reached from other machines."""
        local = str(self.data.get("host", "")).startswith("127.")
        return not local and self.data.get("runtime") != "process"

    def text(self, file: str) -> str:
        """The inventory, as Python."""
        count = 1 + len(self.workers)
        return _TEXT.format(
            title="One DGX Spark" if count == 1 else f"{count} DGX Sparks",
            file=file,
            settings="\n".join(f'    "{k}": {_literal(v)},' for k, v in self.settings.items()),
            head=_literal(self.head),
            workers=", ".join(map(_literal, self.workers)),
        )


def node_name(name: str) -> str:
    """A node's name as an inventory may have it; click.BadParameter for anything else."""
    if "@" in name[1:]:
        user, _, host = name.partition("@")
        raise click.BadParameter(f"{name}: the user has an option of its own: {host} --user {user}")
    if not _NODE.match(name):
        raise click.BadParameter(f"{name!r} is neither a name for `ssh NAME` nor @local")
    return name


def parse_assignments(words: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE words, typed as pyinfra's --data types them; click.BadParameter for a secret."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{word}: give NAME=VALUE")
        if name in OPTIONS:
            raise click.BadParameter(f"{name} has an option of its own: {OPTIONS[name]}")
        if _SECRET.search(name) and not name.endswith("_file"):
            raise click.BadParameter(f"{name}: an inventory is no place for a secret; name a file")
        if value.lower() in ("true", "false"):
            values[name] = value.lower() == "true"
            continue
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


# For a deploy's checks, which include whether the nodes reach each other.
SECONDS = 240
# File names that an inventory can't have: pyinfra makes a group of the file's name.
GROUPS = ("all", "head", "workers", "monitor", "self")
HEAD = ("node", "SSH", "GPU", "driver", "Docker", "hf_cache", "free", "python", "QSFP ports Up")
COLORS = {"error": "red", "warning": "yellow"}
QUESTION = "Create an API key? Without one, anyone who can reach the API may use it"
HF_CACHE = "/raid/hf-cache"
MODEL = "gpt-oss-120b"
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
    ask = commands.on_terminal() and not yes
    file = _inventory_file(root, output, ask=ask, force=force)
    project = Project(root, file)
    inventory = ask_inventory(
        project, head=head, workers=workers, user=user, hf_cache=hf_cache, model=model,
        more=more, ask=ask,
    )  # fmt: skip
    open_to_all = inventory.reachable and not inventory.data.get("api_key_file")
    if open_to_all and (make_key or (ask and confirm(QUESTION))):
        data = {**inventory.data, "api_key_file": _key_file(file.stem)}
        inventory = replace(inventory, data=data)
    click.echo(f"reading {', '.join([inventory.head, *inventory.workers])} …", err=True)
    # The probe reads its nodes from an inventory: a temporary one.
    with tempfile.TemporaryDirectory(prefix="spark-cluster-") as folder:
        draft = Path(folder, file.name)
        draft.write_text(inventory.text(str(draft)))
        settings = {
            "inventory": str(draft),
            "group_data": str(file.parent / "group_data"),
            "model": inventory.model,
        }
        document = project.fetch("probe", settings, hosts="@local", seconds=SECONDS)
    probe = printable.all_printable(document)
    click.echo(nodes_table(probe["nodes"]))
    if silent := [node for node in probe["nodes"] if node["lost"]]:
        lines = [f"{n['name']}: {n['lost']} -> {n['cure']}" for n in silent]
        raise commands.ClusterError("\n".join(["nothing was written:", *lines]))
    _write_inventory(project, inventory)
    return _show_next(project, inventory, probe["findings"])


def _inventory_file(root: Path, output: Path | None, *, ask: bool, force: bool) -> Path:
    """The file to write, which may be overwritten if it exists."""
    file = root / INVENTORY if output is None else output.absolute()
    if file.suffix != ".py" or file.stem in GROUPS:
        raise click.UsageError(
            f"--output {output}: give a file that ends in .py, other than "
            + ", ".join(f"{name}.py" for name in GROUPS)
        )
    if not file.parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {file.parent}")
    if force or not file.exists():
        return file
    shown = choice.relative_path(file)
    if not ask:
        what = f"{shown} already exists: overwrite it with --force, or write --output FILE"
        raise commands.ClusterError(what)
    click.confirm(f"{shown} already exists. Overwrite it?", abort=True)
    return file


def _key_file(name: str) -> str:
    """The file of the API key, created if it does not exist; outside the project, so not in git."""
    file = Path.home() / ".config" / "spark-serving" / f"{name}.key"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as key_file:
            key_file.write(f"{secrets.token_hex(32)}\n")
        click.echo(f"a new key is in {file}", err=True)
    except FileExistsError:
        click.echo(f"using the key in {file}", err=True)
    except OSError as error:
        raise commands.ClusterError(f"{file} can't be written: {error.strerror}") from None
    return f"~/{file.relative_to(Path.home())}"


def _write_inventory(project: Project, inventory: InventoryText) -> None:
    """Write the inventory, and also the model wherever group data would override it."""
    before = project.inventory.read_bytes() if project.inventory.exists() else None
    choice.write_file(
        project.inventory, inventory.text(choice.relative_path(project.inventory)).encode()
    )
    try:
        model = choice.find_model_or_fail(project, inventory.model)
        variant = choice.choose_variant_or_fail(project, model)
        others = choice.write_choice(project, model, variant)
    except commands.ClusterError:
        if before is None:
            project.inventory.unlink(missing_ok=True)
        else:
            choice.write_file(project.inventory, before)
        raise
    files = [project.inventory, *(change.file for change in others)]
    click.echo(f"\nwritten: {', '.join(map(choice.relative_path, files))}")


def _show_next(project: Project, inventory: InventoryText, findings: list[dict[str, str]]) -> int:
    """Print what would still prevent a deploy, and what comes next; the exit code."""
    if os.environ.get("HF_TOKEN"):
        click.echo("HF_TOKEN is set in this shell: deploys use it, and no file stores it")
    refused, lines = list_problems(findings)
    file = choice.relative_path(project.inventory)
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
    rows = []
    for node in nodes:
        if node["lost"]:
            rows.append([node["name"], click.style("no", fg="red"), *[""] * (len(HEAD) - 2)])
            continue
        free = node["free_bytes"]
        rows.append(
            [
                node["name"],
                "yes",
                node["gpu"],
                node["driver"],
                node["docker"],
                node["hf_cache"],
                "" if free is None else printable.gigabytes(free),
                node["python"],
                ", ".join(node["ports"]) or "none",
            ]
        )
    return printable.table(HEAD, rows, right=("free",))


def list_problems(findings: Sequence[Mapping[str, str]]) -> tuple[bool, list[str]]:
    """Whether a deploy would be refused; and every error and warning, with its cure."""
    lines = []
    for finding in findings:
        if color := COLORS.get(finding["level"]):
            level = click.style(f"{finding['level']:>7}", fg=color)
            lines.append(f"{level}  {format_finding(finding)}")
    return any(finding["level"] == "error" for finding in findings), lines


# ---- questions


def ask_inventory(
    project: Project,
    *,
    head: str | None,
    workers: Sequence[str],
    user: str | None,
    hf_cache: str | None,
    model: str | None,
    more: Sequence[str],
    ask: bool,
) -> InventoryText:
    """Fill it from the options, then from questions, then from the defaults.

    click.UsageError without a head.
    """
    if head is None and not ask:
        raise click.UsageError("name the head: --head NAME (as in `ssh NAME`, or @local)")
    if head is None:
        here = "@local" if is_spark() else None
        head = _prompt("Head (as in `ssh NAME`; @local is this machine)", here, node_name)
    if not workers and ask:
        workers = _prompt(
            "Workers, separated by spaces (empty: none)",
            "",
            lambda words: [node_name(word) for word in words.replace(",", " ").split()],
        )
    if user is None:
        user = _prompt("SSH user (empty: as in your SSH config)", "", str) if ask else ""
    if hf_cache is None:
        hf_cache = _prompt("Folder for weights on the nodes", HF_CACHE, _path) if ask else HF_CACHE

    def model_name(word: str) -> str:
        return choice.short_name(choice.find_model_or_fail(project, word))

    if model is None:
        question = "Model (spark-cluster models lists them)"
        model = _prompt(question, MODEL, model_name) if ask else MODEL
    return InventoryText(
        head=node_name(head),
        workers=tuple(map(node_name, workers)),
        model=model_name(model),
        hf_cache=_path(hf_cache),
        user=user,
        data=parse_assignments(more),
    )


def is_spark() -> bool:
    """Whether this machine has a QSFP port's HCA: then it is one of the nodes."""
    devices = Path("/sys/class/infiniband")
    return devices.is_dir() and any(devices.iterdir())


def confirm(question: str) -> bool:
    """Yes or no, yes by default; no if the input has ended."""
    try:
        return click.confirm(question, default=True)
    except click.Abort as stopped:
        if isinstance(stopped.__context__, EOFError):
            return False
        raise


def _prompt(question: str, default: str | None, kind: Callable[[str], Any]) -> Any:
    """Ask until the answer is valid."""
    while True:
        reply = click.prompt(question, default=default, show_default=bool(default))
        try:
            return kind(reply.strip())
        except (click.BadParameter, commands.ClusterError) as error:
            click.echo(error.message, err=True)


def _path(word: str) -> str:
    if word.startswith(("/", "~/")) and ":" not in word:
        return word
    raise click.BadParameter(f"{word}: give an absolute path or one that starts with ~/")

"""What the project has deployed, as its own listing deploy reports it.

Nothing of the project is imported: `deploys/listing.py` prints one JSON document on stdout, whose
fields are described in the project's cluster/reports/listing.py.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.errors import BadInput, BenchError

LISTING = Path("deploys", "listing.py")
VERSION = 1
# Two nodes on a LAN answer in 2 s; pyinfra gives up on one that is off after 10 s.
SECONDS = 60
LAST_LINES = 4
# Lines that pyinfra prints with every failure.
NOISE = re.compile(
    r"^(Loading|Connecting to|Disconnecting from) |Failed to load host keys|No hosts remaining!"
)


class ProjectModel(Struct, frozen=True):
    """A model of the catalog.

    sparks: on which of 1, 2, 4 and 8 Sparks it fits
    default_variant: the variant that serves if none is chosen; "": there is none
    variants: by name, the numbers of nodes that each is for; empty: any number
    """

    id: str
    alias: str = ""
    number: int | None = None
    gated: bool = False
    runtime: str = "docker"
    max_context: int | None = None
    sparks: tuple[int, ...] = ()
    variants: dict[str, tuple[int, ...]] = {}
    default_variant: str = ""


class ProjectRank(Struct, frozen=True):
    """A running rank.

    image_id: identifies what the tag stood for
    spec: SHA-256 of everything that decides what it runs
    launch: the settings its engine was started with (tp, pp, nnodes, mem_fraction …)
    variant: "": the model's default, or it has none; see `ProjectListing.served_variant`
    """

    node: str
    rank: int
    name: str
    runtime: str
    model: str
    image: str
    image_id: str
    sglang: str
    spec: str
    launch: dict[str, Any]
    started_at: str
    variant: str = ""


class ProjectSsh(Struct, frozen=True):
    """How a node is reached, by OpenSSH's options; "" and 0 leave an option out."""

    hostname: str
    user: str = ""
    port: int = 0
    key_file: str = ""
    config_file: str = ""
    known_hosts_file: str = ""
    strict_host_key_checking: str = ""


class ProjectNode(Struct, frozen=True):
    """A node. here: it is this machine; ssh: None if it is not reached by SSH."""

    name: str
    here: bool = False
    ssh: ProjectSsh | None = None
    revision: str = ""
    weights: str = ""


class ProjectListing(Struct, frozen=True):
    """A deployment, as the project lists it.

    light: no node was contacted: what runs is not known, and the URL is a guess
    url: the head's API as this machine reaches it
    runs: whether rank 0 runs; that doesn't mean that it answers
    model: the one that the settings name; what runs is in `ranks`, in rank order
    declares_variant: the inventory names a variant, which another model may not have
    revision: commit of the weights that run; "" if unknown
    tokenizer: the folder of the weights that run, if it is on this machine, else ""
    api_key_file: a file on this machine with the API key; "" if the API requires none
    notes: what could not be read
    """

    version: int
    light: bool
    url: str
    runs: bool
    served_model_name: str
    model: str
    group: str
    state: str
    revision: str = ""
    tokenizer: str = ""
    ranks: tuple[ProjectRank, ...] = ()
    nodes: tuple[ProjectNode, ...] = ()
    catalogue: tuple[ProjectModel, ...] = ()
    api_key_file: str = ""
    notes: tuple[str, ...] = ()
    declares_variant: bool = False

    @property
    def head(self) -> ProjectRank | None:
        """The rank that serves the API; None if it doesn't run."""
        return self.ranks[0] if self.runs else None

    @property
    def served_variant(self) -> str:
        """The variant that serves, by its name in the catalog; "": not known, or there is none."""
        if not self.head:
            return ""
        of_model = (m.default_variant for m in self.catalogue if m.id == self.head.model)
        return self.head.variant or next(of_model, "")


class _Version(Struct):
    version: int


def find_listing(
    project: Path, inventory: Path | str, *, light: bool = False, seconds: float = SECONDS
) -> ProjectListing | None:
    """List what the project in this folder has deployed with an inventory.

    inventory: a path relative to the project's folder, else to the current one
    light: contact no node: the catalog, the nodes and a guess at the head's URL, in half a second
    seconds: time limit

    Returns None if the folder has no project. Raises BadInput if there is no such inventory,
    BenchError if the project can't list its deployment.
    """
    if not (project / LISTING).is_file():
        return None
    file = inventory_file(project, Path(inventory))
    args = ["@local", str(LISTING), "--data", f"light={file}"] if light else [file, str(LISTING)]
    return decode_listing(run_pyinfra(project, ["-y", *map(str, args)], seconds))


def decode_listing(document: bytes) -> ProjectListing:
    """Decode a listing; BenchError if the document isn't one or has another version."""
    try:
        version = msgspec.json.decode(document, type=_Version).version
        if version == VERSION:
            return msgspec.json.decode(document, type=ProjectListing)
    except msgspec.DecodeError as e:
        raise BenchError(
            f"{LISTING} printed no listing ({e}): {document[:200]!r}; "
            "run it by hand, or measure with --url"
        ) from None
    raise BenchError(
        f"the project's listing has version {version}, this spark-bench reads {VERSION}: "
        "install the project's own bench/ (pip install ./bench)"
    )


def inventory_file(project: Path, inventory: Path) -> Path:
    """The inventory's absolute path, looked for in the project, then here; BadInput if it isn't a
    file."""
    for file in (project / inventory, inventory):
        if file.is_file():
            return file.resolve()
        if file.is_dir():
            raise BadInput(f"--inventory {inventory}: is a folder; name a file in it")
    raise BadInput(
        f"--inventory {inventory}: there is no such file, neither in {project.resolve()} nor here"
    )


def run_pyinfra(project: Path, args: list[str], seconds: float) -> bytes:
    """Run the project's pyinfra and return its stdout; BenchError if it fails or takes longer."""
    try:
        completed = subprocess.run(
            [pyinfra_program(project), *args],
            cwd=project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(
            f"the project did not list its deployment within {seconds:g} s; measure with --url"
        ) from None
    if completed.returncode or not completed.stdout:
        lines = " | ".join(closing_lines(completed.stderr.decode(errors="replace")))
        raise BenchError(f"the project can't list its deployment: {lines}; measure with --url")
    return completed.stdout


def closing_lines(log: str) -> list[str]:
    """The last lines of pyinfra's log, without those that it prints with every failure."""
    lines = [line.strip().removeprefix("--> ") for line in log.splitlines()]
    return [line for line in lines if line and not NOISE.search(line)][-LAST_LINES:]


def pyinfra_program(project: Path) -> str:
    """The project's own pyinfra, else the one on the PATH, else the one next to this Python.

    BenchError if there is none.
    """
    own = project.resolve() / ".venv" / "bin" / "pyinfra"
    beside = Path(sys.executable).with_name("pyinfra")
    program = str(own) if own.is_file() else shutil.which("pyinfra")
    if not program and beside.is_file():
        program = str(beside)
    if not program:
        raise BenchError(f"no pyinfra in {own.parent} nor on the PATH: make setup, or use --url")
    return program

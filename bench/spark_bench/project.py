"""What the deploy side says of itself, asked through its own command line.

Nothing of the project is imported: `deploys/listing.py` prints one JSON document on stdout, whose
fields are described in the project's cluster/reports/listing.py.
"""

from __future__ import annotations

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
# Two nodes over a LAN answer in 2 s; one that is off takes pyinfra's 10 s to give up.
SECONDS = 60
LAST_LINES = 4
# Said of every failure, or of none in particular.
NOISE = re.compile(
    r"^(Loading|Connecting to|Disconnecting from) |Failed to load host keys|No hosts remaining!"
)


class Model(Struct, frozen=True):
    """A model of the catalogue; sparks: on which of 1, 2, 4 and 8 Sparks it fits."""

    id: str
    alias: str = ""
    number: int | None = None
    gated: bool = False
    runtime: str = "docker"
    max_context: int | None = None
    sparks: tuple[int, ...] = ()


class Rank(Struct, frozen=True):
    """A rank that runs.

    image_id: what is inside the tag
    spec: SHA-256 of everything that decides what it runs
    launch: what its engine was started with (tp, pp, nnodes, mem_fraction …)
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


class Ssh(Struct, frozen=True):
    """How a node is reached, in OpenSSH's words; "" and 0 leave a word out."""

    hostname: str
    user: str = ""
    port: int = 0
    key_file: str = ""
    config_file: str = ""
    known_hosts_file: str = ""
    strict_host_key_checking: str = ""


class Node(Struct, frozen=True):
    """A node; here: it is this very machine; ssh: None where SSH is not the way to it."""

    name: str
    here: bool = False
    ssh: Ssh | None = None
    revision: str = ""
    weights: str = ""


class Listing(Struct, frozen=True):
    """A deployment, as the project lists it.

    light: no node was asked: what runs is not known, and the URL is a guess
    url: the head's API as this machine reaches it
    runs: rank 0 runs (not: it answers)
    model: the one that the settings name; what runs is in `ranks`, rank order
    revision: commit of the weights that run, "" where not known
    tokenizer: the folder of the weights that run, where it lies on this machine, else ""
    api_key_file: here, with the key that the API wants; "" where it wants none
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
    ranks: tuple[Rank, ...] = ()
    nodes: tuple[Node, ...] = ()
    catalogue: tuple[Model, ...] = ()
    api_key_file: str = ""
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> Rank | None:
        """The rank that answers the API; None where it does not run."""
        return self.ranks[0] if self.runs else None


class _Version(Struct):
    version: int


def find(
    project: Path, inventory: Path | str, *, light: bool = False, seconds: float = SECONDS
) -> Listing | None:
    """What the project in this folder has deployed by this inventory; None: no project there.

    inventory: a path from the project's folder, else from the current one
    light: ask no node: the catalogue, the nodes and a guess at the head's URL, in half a second

    BadInput where there is no such inventory, BenchError where the project could not list.
    """
    if not (project / LISTING).is_file():
        return None
    file = inventory_file(project, Path(inventory))
    words = ["@local", str(LISTING), "--data", f"light={file}"] if light else [file, str(LISTING)]
    return decode(ask(project, ["-y", *map(str, words)], seconds))


def decode(document: bytes) -> Listing:
    """The document as typed data; BenchError where it is none, or of another version."""
    try:
        version = msgspec.json.decode(document, type=_Version).version
        if version == VERSION:
            return msgspec.json.decode(document, type=Listing)
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
    """The inventory's file, wherever it is named from; BadInput where there is none."""
    for file in (project / inventory, inventory):
        if file.is_file():
            return file.resolve()
        if file.is_dir():
            raise BadInput(f"--inventory {inventory}: is a folder; name a file in it")
    raise BadInput(
        f"--inventory {inventory}: there is no such file, neither in {project.resolve()} nor here"
    )


def ask(project: Path, words: list[str], seconds: float) -> bytes:
    """What the project's pyinfra prints on stdout; BenchError where it can't."""
    try:
        done = subprocess.run(
            [pyinfra(project), *words],
            cwd=project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(
            f"the project did not list its deployment within {seconds:g} s; measure with --url"
        ) from None
    if done.returncode or not done.stdout:
        told = " | ".join(last_lines(done.stderr.decode(errors="replace")))
        raise BenchError(f"the project can't list its deployment: {told}; measure with --url")
    return done.stdout


def last_lines(log: str) -> list[str]:
    """The lines of pyinfra's log that say why it ended."""
    lines = [line.strip().removeprefix("--> ") for line in log.splitlines()]
    return [line for line in lines if line and not NOISE.search(line)][-LAST_LINES:]


def pyinfra(project: Path) -> str:
    """The project's own pyinfra, else the one on the PATH, else the one beside this Python."""
    own = project.resolve() / ".venv" / "bin" / "pyinfra"
    beside = Path(sys.executable).with_name("pyinfra")
    found = str(own) if own.is_file() else shutil.which("pyinfra")
    if not found and beside.is_file():
        found = str(beside)
    if not found:
        raise BenchError(f"no pyinfra in {own.parent} nor on the PATH: make setup, or use --url")
    return found

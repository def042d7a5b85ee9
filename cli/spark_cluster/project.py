"""The project's checkout, and what it says of its nodes: one JSON document for each question.

pyinfra runs as a process of its own: nothing of it is imported, and a node that hangs, hangs there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_cluster.commands import ClusterError
from spark_cluster.printable import printable

INVENTORY = Path("inventories", "spark.py")
# Two nodes over a LAN answer in 2 s; one that is off takes pyinfra's 10 s to give up.
SECONDS = 60
LAST_LINES = 4
_ERROR = re.compile(r"^pyinfra error(?: in .* line \d+)?: (.*)$")
# Said of every failure, or of none in particular.
_NOISE = re.compile(
    r"^(Loading|Connecting to|Disconnecting from|Preparing) |Failed to load host keys"
    r"|No hosts remaining!|^refused, nothing was changed:$|\] Connected$"
)


@dataclass(frozen=True)
class Said:
    """An ended run of pyinfra: its exit code, stdout (a document), stderr (pyinfra's own words)."""

    code: int
    out: bytes
    log: str


@dataclass(frozen=True)
class Project:
    """A checkout (it has deploy.py and inventories/), and the inventory that was chosen."""

    root: Path
    inventory: Path

    def words(
        self,
        deploy: str,
        data: Mapping[str, Any] | None = None,
        *,
        hosts: str = "",
    ) -> list[str]:
        """The command line of `deploys/DEPLOY.py`.

        hosts: in the inventory's place, such as "@local"
        """
        settings = [f"{name}={_value(value)}" for name, value in (data or {}).items()]
        said = [word for setting in settings for word in ("--data", setting)]
        where = hosts or str(self.inventory)
        return [pyinfra(self.root), "-y", where, f"deploys/{deploy}.py", *said]

    def run(
        self,
        deploy: str,
        data: Mapping[str, Any] | None = None,
        *,
        hosts: str = "",
        seconds: float = SECONDS,
    ) -> Said:
        """What the deploy says; ClusterError where it does not end in time."""
        try:
            done = subprocess.run(
                self.words(deploy, data, hosts=hosts),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(
                f"the nodes of {self.inventory} gave no answer in {seconds:g} s"
            ) from None
        return Said(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def ask(
        self,
        deploy: str,
        data: Mapping[str, Any] | None = None,
        *,
        hosts: str = "",
        seconds: float = SECONDS,
    ) -> Any:
        """The JSON document that the deploy prints; ClusterError with its words where it can't."""
        said = self.run(deploy, data, hosts=hosts, seconds=seconds)
        if said.code or not said.out:
            raise ClusterError("\n".join(told(said.log)))
        try:
            return json.loads(said.out)
        except ValueError:
            raise ClusterError(
                f"deploys/{deploy}.py printed no document: {said.out[:200]!r}"
            ) from None

    def core(self) -> None:
        """Make the project's pure packages importable: cluster.catalog and its like."""
        if str(self.root) not in sys.path:
            sys.path.append(str(self.root))


def find(inventory: Path | None = None, start: Path | None = None) -> Project:
    """The project above the current folder, else the one that this package is installed from.

    inventory: a path from the current folder, else from the project's. None: inventories/spark.py
    """
    root = root_of(start or Path.cwd())
    if inventory is None:
        return Project(root, _file(root / INVENTORY, INVENTORY, root))
    near = (start or Path.cwd()) / inventory
    return Project(root, _file(near if near.is_file() else root / inventory, inventory, root))


def root_of(start: Path) -> Path:
    """The checkout's folder; ClusterError where there is none."""
    here = Path(__file__).resolve()
    for folder in (start.resolve(), *start.resolve().parents, *here.parents):
        if (folder / "deploy.py").is_file() and (folder / "inventories").is_dir():
            return folder
    raise ClusterError(
        "no project here: go to its checkout (the folder with deploy.py and inventories/)"
    )


def _file(path: Path, said: Path, root: Path) -> Path:
    if path.is_file():
        return path.resolve()
    places = "" if Path.cwd() == root else f", neither here nor in {root}"
    what = "is a folder" if path.is_dir() else f"there is no such file{places}"
    raise ClusterError(f"--inventory {said}: {what}; spark-cluster init writes one")


def pyinfra(root: Path) -> str:
    """The pyinfra beside this Python, else the project's own, else the one on the PATH."""
    beside = (Path(sys.executable).with_name("pyinfra"), root / ".venv" / "bin" / "pyinfra")
    found = next((str(p) for p in beside if p.is_file()), None) or shutil.which("pyinfra")
    if not found:
        raise ClusterError(f"no pyinfra in {root}/.venv nor on the PATH: make setup")
    return found


def told(log: str) -> list[str]:
    """The lines of pyinfra's log that say why it ended."""
    lines = [printable(line).strip().removeprefix("--> ") for line in log.split("\n")]
    ends = [n for n, line in enumerate(lines) if _ERROR.match(line)]
    errors = [_ERROR.sub(r"\1", lines[ends[-1]]), *lines[ends[-1] + 1 :]] if ends else []
    said = [line for line in errors if line and not _NOISE.search(line)]
    return (
        said
        or [line for line in lines if line and not _NOISE.search(line)][-LAST_LINES:]
        or ["pyinfra ended without a word"]
    )


def _value(value: Any) -> str:
    """As pyinfra's --data reads it back."""
    return value if isinstance(value, str) else json.dumps(value)

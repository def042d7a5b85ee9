"""The project's checkout, and what its deploys report about the nodes: one JSON document each.

pyinfra runs in a process of its own: this one imports nothing of it, and never hangs with a node.
"""

import json
import shutil
import subprocess
import sys
import tempfile
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


@dataclass(frozen=True)
class DeployRun:
    """A finished run of pyinfra: exit code, stdout (a document), stderr (pyinfra's own messages).

    + findings: why it failed, one line each, from its report (cluster/reports/outcome.py)
    """

    code: int
    out: bytes
    log: str
    findings: tuple[str, ...] = ()

    @property
    def failure(self) -> str:
        """Why it failed, in lines; pyinfra's last lines if it failed before it could report."""
        lines = (printable(line).strip() for line in self.log.split("\n"))
        last = [line for line in lines if line][-LAST_LINES:]
        return "\n".join(self.findings or last or ["pyinfra ended without saying why"])


@dataclass(frozen=True)
class Project:
    """A checkout (it has deploy.py and inventories/), and the inventory that was chosen."""

    root: Path
    inventory: Path

    def command_line(
        self, deploy: str, data: Mapping[str, Any] | None = None, *, hosts: str = ""
    ) -> list[str]:
        """The command line of `deploys/DEPLOY.py`.

        hosts: in the inventory's place, such as "@local"
        """
        options = []
        for name, value in (data or {}).items():
            # pyinfra's --data parses JSON.
            text = value if isinstance(value, str) else json.dumps(value)
            options += ["--data", f"{name}={text}"]
        where = hosts or str(self.inventory)
        return [find_pyinfra(self.root), "-y", where, f"deploys/{deploy}.py", *options]

    def run(
        self,
        deploy: str,
        data: Mapping[str, Any] | None = None,
        *,
        hosts: str = "",
        seconds: float = SECONDS,
    ) -> DeployRun:
        """Run a deploy to its end; ClusterError if it does not end in time."""
        with tempfile.TemporaryDirectory(prefix="spark-cluster-") as folder:
            report = Path(folder, "report.json")
            argv = self.command_line(deploy, {**(data or {}), "report": str(report)}, hosts=hosts)
            try:
                done = subprocess.run(
                    argv,
                    cwd=self.root,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=seconds,
                )
            except subprocess.TimeoutExpired:
                raise ClusterError(
                    f"the nodes of {self.inventory} did not answer within {seconds:g} s"
                ) from None
            log = done.stderr.decode(errors="replace")
            return DeployRun(done.returncode, done.stdout, log, read_findings(report))

    def fetch(
        self,
        deploy: str,
        data: Mapping[str, Any] | None = None,
        *,
        hosts: str = "",
        seconds: float = SECONDS,
    ) -> Any:
        """The JSON document that a deploy prints; ClusterError with the reasons if it fails."""
        run = self.run(deploy, data, hosts=hosts, seconds=seconds)
        if run.code or not run.out:
            raise ClusterError(run.failure)
        try:
            return json.loads(run.out)
        except ValueError:
            raise ClusterError(
                f"deploys/{deploy}.py printed no document: {run.out[:200]!r}"
            ) from None

    def core(self) -> None:
        """Make the project's pure packages, such as cluster.catalog, importable."""
        if str(self.root) not in sys.path:
            sys.path.append(str(self.root))


def find_project(inventory: Path | None = None, start: Path | None = None) -> Project:
    """The project above the current folder, else the one that this package is installed from.

    inventory: a path from the current folder, else from the project's. None: inventories/spark.py
    """
    root = project_root(start or Path.cwd())
    if inventory is None:
        return Project(root, _file(root / INVENTORY, INVENTORY, root))
    near = (start or Path.cwd()) / inventory
    return Project(root, _file(near if near.is_file() else root / inventory, inventory, root))


def project_root(start: Path) -> Path:
    """The checkout's folder; ClusterError if there is none."""
    here = Path(__file__).resolve()
    for folder in (start.resolve(), *start.resolve().parents, *here.parents):
        if (folder / "deploy.py").is_file() and (folder / "inventories").is_dir():
            return folder
    raise ClusterError(
        "no project here: go to its checkout (the folder with deploy.py and inventories/)"
    )


def _file(path: Path, given: Path, root: Path) -> Path:
    if path.is_file():
        return path.resolve()
    places = "" if Path.cwd() == root else f", neither here nor in {root}"
    what = "is a folder" if path.is_dir() else f"there is no such file{places}"
    raise ClusterError(f"--inventory {given}: {what}; spark-cluster init writes one")


def find_pyinfra(root: Path) -> str:
    """The pyinfra beside this Python, else the project's own, else the one on the PATH."""
    beside = (Path(sys.executable).with_name("pyinfra"), root / ".venv" / "bin" / "pyinfra")
    path = next((str(p) for p in beside if p.is_file()), None) or shutil.which("pyinfra")
    if not path:
        raise ClusterError(f"no pyinfra in {root}/.venv nor on the PATH: make setup")
    return path


def read_findings(report: Path) -> tuple[str, ...]:
    """The errors in a run's report, a line each; none if it ended before it could write one."""
    try:
        findings = json.loads(report.read_text())["findings"]
        return tuple(format_finding(f) for f in findings if f["level"] == "error")
    except (OSError, ValueError, LookupError, TypeError):
        return ()


def format_finding(finding: Mapping[str, str]) -> str:
    """As the project itself writes a finding."""
    place = f"{finding['where']}: " if finding["where"] else ""
    cure = f" -> {finding['cure']}" if finding["cure"] else ""
    return printable(f"{place}{finding['what']}{cure}")

"""Compiles the reference server's C when it is first needed, into the user's cache."""

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from spark_bench.errors import BenchError

SOURCE = Path(__file__).parent / "source"
FLAGS = ("-O2", "-Wall", "-Wextra")
COMPILERS = ("cc", "gcc", "clang")


def compiler() -> list[str]:
    """$CC (which may hold options), else the first of COMPILERS on the PATH."""
    chosen = shlex.split(os.environ.get("CC", ""))
    candidates = [chosen] if chosen else [[name] for name in COMPILERS]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    missing = chosen[0] if chosen else ", ".join(COMPILERS)
    raise BenchError(
        f"The built-in reference server needs a C compiler, and there is none of: {missing}. "
        "Install one (apt-get install gcc) or name it in $CC."
    )


def binary_folder() -> Path:
    """Where compiled reference servers are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "spark-bench"


def fingerprint(command: list[str]) -> str:
    """Of the sources, the compiler and its flags: another one is another binary."""
    digest = hashlib.sha256(shlex.join([*command, *FLAGS]).encode())
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def build_reference_server() -> Path:
    """The compiled reference server. BenchError: there is no compiler, or it fails."""
    command = compiler()
    binary = binary_folder() / f"reference-{fingerprint(command)}"
    if not binary.exists():
        try:
            _compile(command, binary)
        except OSError as error:
            raise BenchError(
                f"The reference server can't be written to {binary}: {error.strerror}. "
                "Set XDG_CACHE_HOME to a folder that can be written."
            ) from error
    return binary


def _compile(command: list[str], binary: Path) -> None:
    """Into a file of its own first: another process may be building the same."""
    binary.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(path) for path in sorted(SOURCE.glob("*.c"))]
    with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
        compiled = Path(scratch) / "reference"
        done = subprocess.run(
            [*command, *FLAGS, "-o", str(compiled), *sources], capture_output=True, text=True
        )
        if done.returncode:
            raise BenchError(
                f"{shlex.join(command)} can't compile the reference server:\n{done.stderr}"
            )
        compiled.rename(binary)

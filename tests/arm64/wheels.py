"""Whether every locked package has a wheel for aarch64: pip is asked, nothing is installed.

python tests/arm64/wheels.py 3.12            exit code 0, or pip's words and 1
python tests/arm64/wheels.py 3.11 FOLDER     downloads them, too
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# Ubuntu 24.04 has glibc 2.39, and pip takes a platform's name literally. manylinux_2_17 is the
# oldest that exists for aarch64.
TAGS = [f"manylinux_2_{minor}_aarch64" for minor in range(39, 16, -1)]
TAGS += ["manylinux2014_aarch64", "linux_aarch64"]


def locked(lock: str, python: str) -> Iterator[str]:
    """The packages of a lock that Linux on aarch64 with this Python takes, hashes and all.

    pip itself would judge the markers by the Python and the machine that it runs on.
    """
    here = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": "aarch64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        words, *hashes = entry.replace("\\\n", "\n").splitlines()
        package = Requirement(words)
        if package.marker is None or package.marker.evaluate(here):
            yield " ".join([f"{package.name}{package.specifier}", *map(str.strip, hashes)])


# An environment of its own, which may have other versions.
APART = "sgl-eval.txt"
# Pure Python that its authors publish as source only: pip builds it on any machine.
SOURCE_ONLY = ("antlr4-python3-runtime",)


def main(python: str, folder: str = "") -> int:
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    together = [lock for lock in locks if lock.name != APART]
    apart = [lock for lock in locks if lock.name == APART]
    return ask(together, python, folder) or (0 if folder else ask(apart, python))


def ask(locks: Iterable[Path], python: str, folder: str = "") -> int:
    """Ask for the packages of locks, which must agree; folder: download them there."""
    lines = {line for lock in locks for line in locked(lock.read_text(), python)}
    packages = sorted(line for line in lines if not line.startswith(SOURCE_ONLY))
    with tempfile.TemporaryDirectory() as temporary:
        wanted = Path(temporary, "requirements.txt")
        wanted.write_text("\n".join(packages) + "\n")
        words = ["download", "--dest", folder] if folder else ["install", "--dry-run"]
        words += [] if folder else ["--target", temporary]
        words += [word for tag in TAGS for word in ("--platform", tag)]
        words += ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        words += ["--implementation", "cp", "--python-version", python, "--requirement", wanted]
        # Judged by the Python that pip runs on; the wheels' own tags are by the one asked for.
        words += ["--ignore-requires-python"]
        code = subprocess.run([sys.executable, "-m", "pip", *map(str, words)]).returncode
    if code:
        print(f"wheels: a locked package has no wheel for aarch64 and Python {python}")
    else:
        print(f"wheels: {len(packages)} locked packages have one for aarch64 and Python {python}")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

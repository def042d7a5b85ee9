"""Which packages `make check-wheels` asks for: those that aarch64 takes, with their hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.arm64.wheels import locked

ROOT = Path(__file__).parents[2]
LOCK = """\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:dd
hf-xet==1.8.0 ; platform_machine == 'aarch64' or platform_machine == 'x86_64' \\
    --hash=sha256:ee
rich==15.0.0 \\
    --hash=sha256:ff
"""


@pytest.mark.parametrize(
    ("python", "numpy"),
    [
        ("3.11", "numpy==2.4.6 --hash=sha256:aa"),
        ("3.12", "numpy==2.5.5 --hash=sha256:bb --hash=sha256:cc"),
    ],
)
def test_markers_are_judged_for_the_given_python_and_machine(python: str, numpy: str) -> None:
    assert list(locked(LOCK, python)) == [
        numpy,
        "hf-xet==1.8.0 --hash=sha256:ee",
        "rich==15.0.0 --hash=sha256:ff",
    ]


@pytest.mark.parametrize(
    "lock", sorted(ROOT.glob("requirements/*.txt")), ids=lambda path: path.name
)
def test_every_package_of_the_locks_is_read_with_its_hashes(lock: Path) -> None:
    lines = list(locked(lock.read_text(), "3.12"))
    assert lines
    assert all("==" in line and " --hash=sha256:" in line for line in lines)

"""How commands get root, run by a real shell with a fake sudo."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster.node.host import as_root

SCRIPT = 'echo "$SUDO" "$1"; cat'


@pytest.mark.parametrize(
    ("uid", "sudo", "out", "err"),
    [
        pytest.param("0", "exit 9", " one's argument\nstdin", "", id="root already"),
        pytest.param("1000", 'shift; [ "$1" != -- ] || shift; SUDO=yes exec "$@"',
                     "yes one's argument\nstdin", "", id="sudo"),
        pytest.param("1000", "echo 'sudo: a password is required' >&2; exit 1", "",
                     "sudo gives no root without a password\n", id="a password"),
    ],
)  # fmt: skip
def test_commands_run_as_root_when_needed(
    tmp_path: Path, uid: str, sudo: str, out: str, err: str
) -> None:
    for name, body in {"id": f"echo {uid}", "sudo": sudo}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        as_root("sh", "-c", SCRIPT, "sh", "one's argument"),
        input="stdin",
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr) == (out, err)

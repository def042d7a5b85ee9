"""The files that a deploy puts into the containers, checked by the programs that read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from samples import fabric_of, sparks, want

from cluster.monitoring.alertmanager import read_receiver
from cluster.monitoring.wanted import (
    ALERTMANAGER_FILE,
    CONFIG_FILE,
    RULES_FILE,
    Private,
    fabric_addresses,
    wanted_parts,
)

RECEIVERS = {
    "nobody": "",
    "webhook": 'webhook = "https://h.example.org/x"\ntoken = "t"\ndead_man = "https://h.example.org"',
    "mail": 'smtp = "a.org:587"\nfrom = "a@b.org"\nto = "c@d.org"\nuser = "u"\npassword = "p"',
}


@pytest.mark.parametrize("text", [pytest.param(t, id=name) for name, t in RECEIVERS.items()])
def test_promtool_and_amtool_accept_them(programs: Path, tmp_path: Path, text: str) -> None:
    declaration = want(2)
    private = Private(receiver=read_receiver(text) if text else None)
    wanted = wanted_parts(
        declaration,
        fabric_addresses(declaration, fabric_of(declaration, sparks())),
        "127.0.0.1",
        private,
    )
    for each in wanted["spark-1"].parts:
        for path, content in each.contents.items():
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            # where the configuration says that the rules are
            place.write_text(content.replace(RULES_FILE, str(tmp_path) + RULES_FILE))
    for program, *words in (
        ("promtool", "check", "config", "--lint=all", "--lint-fatal", f"{tmp_path}{CONFIG_FILE}"),
        ("amtool", "check-config", f"{tmp_path}{ALERTMANAGER_FILE}"),
    ):
        command = [programs / program, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

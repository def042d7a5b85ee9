"""What the operations request of the scripts that run on nodes, these scripts know."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "operations/scripts"


def test_every_request_is_one_that_a_script_knows() -> None:
    known = {
        word
        for script in ("hub_client.py", "weights_here.py", "unused_here.py")
        for table in re.findall(
            r"(?:ACTIONS|actions)\b[^\n]*= \{(.*?)\}", (SCRIPTS / script).read_text(), re.S
        )
        for word in re.findall(r'"(\w+)":', table)
    }
    requested = {
        word
        for folder in ("operations", "cluster")
        for path in (ROOT / folder).rglob("*.py")
        for word in re.findall(r'"do"(?:\]? ==|:) "(\w+)"', path.read_text())
    }
    assert {"list", "fetch", "describe", "look", "record", "receive", "place"} <= requested
    assert requested <= known

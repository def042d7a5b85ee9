"""Golden files: what users read, kept as text, so that its wording is reviewed when it changes.

make golden        # write them anew; then read `git diff tests/golden`
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden"


def assert_golden(name: str, text: str) -> None:
    """`text` is what tests/golden/NAME.txt says; with GOLDEN=write the file is written instead."""
    path = FOLDER / f"{name}.txt"
    text = "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
        return
    golden = path.read_text() if path.exists() else ""
    changes = difflib.unified_diff(
        golden.splitlines(), text.splitlines(), f"tests/golden/{path.name}", "now", lineterm=""
    )
    assert text == golden, "\n".join([*changes, "", "If this is meant: make golden"])

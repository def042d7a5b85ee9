"""What paramiko's threads log stays off the terminal: the error is raised and reported too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LOGS = "import logging; logging.getLogger('paramiko.transport').error('Exception (client): …')"


def printed(program: str) -> str:
    words = [sys.executable, "-c", program]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stderr


def test_an_unanswering_node_causes_no_traceback() -> None:
    assert "Exception (client)" in printed(f"import paramiko; {LOGS}")
    assert printed(f"import transport; {LOGS}") == ""

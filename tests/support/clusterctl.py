"""`spark-cluster` as the tests run it: on the controller, for a deploy's inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from deploying import Deploy
from sparks import ROOT, TESTBED, Completed


@dataclass
class Tool:
    """spark-cluster for one inventory."""

    deploy: Deploy

    def __call__(self, command: str, *words: str, timeout: float = 60, **data: object) -> Completed:
        done = self.deploy.cluster.ctl(
            *self.words(command, *words, **data), timeout=timeout, **self.environment
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def document(
        self, command: str, *words: str, code: int = 0, **data: object
    ) -> tuple[dict[str, Any], float]:
        """What it says with --json, and how many seconds it took."""
        begun = time.monotonic()
        done = self(command, "--json", *words, **data)
        seconds = time.monotonic() - begun
        assert done.returncode == code, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document, seconds

    def words(self, command: str, *words: str, **data: object) -> list[str]:
        settings = [w for k, v in data.items() for w in ("--data", f"{k}={v}")]
        program = [sys.executable, "-m", "spark_cluster", command]
        return [*program, "-i", str(self.deploy.inventory), *settings, *words]

    def begin(self, command: str, *words: str) -> subprocess.Popen[str]:
        """Start it and let it run, as a user's terminal would."""
        home = {"HOME": str(self.deploy.cluster.state / "home")}
        return subprocess.Popen(
            [str(TESTBED / "tb"), "ctl", *self.words(command, *words)],
            cwd=ROOT,
            env={**os.environ, **home, "TB_STATE": str(self.deploy.cluster.state)}
            | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(ROOT / "cli")}

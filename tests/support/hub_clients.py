"""Runs of the script that is a node's client of the hub, as forks of one process.

Python takes 0.3 s of CPU to import `huggingface_hub`; the forks have it from their parent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Completed = subprocess.CompletedProcess[str]


class HubClients:
    """The process whose forks are the clients; they run one by one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(
        self, script: str, task: Sequence[str], environ: Mapping[str, str], stdin: str = ""
    ) -> Completed:
        """`python -c SCRIPT TASK...` in this environment and no other."""
        assert self.process.stdin and self.process.stdout
        run = {"script": script, "task": task, "environ": dict(environ), "stdin": stdin}
        self.process.stdin.write(f"{json.dumps(run)}\n")
        self.process.stdin.flush()
        ended: dict[str, Any] = json.loads(self.process.stdout.readline())
        return Completed(task, ended["code"], ended["out"], ended["err"])


@contextmanager
def hub_clients(environ: Mapping[str, str]) -> Iterator[HubClients]:
    """environ: what the client reads as it is imported"""
    with subprocess.Popen(
        [sys.executable, __file__], env=environ, stdin=-1, stdout=-1, text=True
    ) as process:
        yield HubClients(process)
        assert process.stdin
        process.stdin.close()


def fork_clients() -> None:
    """A fork for each line of stdin; how it ended is a line of stdout."""
    import huggingface_hub.file_download
    import huggingface_hub.hf_api  # noqa: F401

    for line in sys.stdin:
        run = json.loads(line)
        with tempfile.TemporaryDirectory() as name:
            files = [Path(name, part) for part in ("in", "out", "err")]
            files[0].write_text(run["stdin"])
            if not (pid := os.fork()):
                for number, file in enumerate(files):
                    os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
                os._exit(run_client(run))
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            out, err = (file.read_text(errors="replace") for file in files[1:])
        print(json.dumps({"code": code, "out": out, "err": err}), flush=True)


def run_client(run: dict[str, Any]) -> int:
    """In the fork: its exit code."""
    os.environ.clear()
    os.environ.update(run["environ"])
    sys.argv, sys.stdin = ["-c", *run["task"]], os.fdopen(0, closefd=False)
    try:
        exec(run["script"], {"__name__": "__main__"})
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    fork_clients()

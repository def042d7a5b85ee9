"""pyinfra's CLI for tests: a program, or forks of a process that has imported it.

    recorded.py INVENTORY deploy.py …   # once
    recorded.py --forks                 # each line on stdin, a JSON object, is a run of its own

Each command of a @fake host goes as a JSON line to $HOME/commands.

With --forks this process imports pyinfra and the project, which is most of a short run's CPU time,
and each run is a fork of it. `pyinfra_runs.py` says what a line holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import inspect
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, os.getcwd())

from gevent import monkey
from pyinfra.api import connectors
from pyinfra.connectors.fake import FakeConnector
from pyinfra_cli.main import main

CLONE_NEWNET = 0x40000000  # linux/sched.h
answer = FakeConnector.run_shell_command


def recorded(self: FakeConnector, command: Any, *args: Any, **kwargs: Any) -> Any:
    text = command if isinstance(command, str) else command.get_masked_value()
    with (Path(os.environ["HOME"]) / "commands").open("a") as record:
        record.write(json.dumps([self.host.name, text]) + "\n")
    return answer(self, command, *args, **kwargs)


def fork_runs() -> None:
    """Returns in a fork for each run; the process itself ends with its stdin."""
    for file in sorted(Path("control").glob("*.py")):
        importlib.import_module(f"control.{file.stem}")
    # A run asks 16 times, each time for the metadata of every package there is.
    connectors.entry_points = cache(connectors.entry_points)  # type: ignore[attr-defined]
    connectors.entry_points(group="pyinfra.connectors")
    inspect.stack()  # as each operation does: this looks up the file of every module, once
    gc.collect()
    gc.freeze()  # pages that no run's collection touches stay shared
    # Nothing has used gevent yet, so there is no event loop that forks would share.
    fork, waitpid = monkey.get_original("os", "fork"), monkey.get_original("os", "waitpid")
    for line in sys.stdin:
        if fork():
            with contextlib.suppress(ChildProcessError):
                while waitpid(-1, os.WNOHANG)[0]:
                    pass
            continue
        # This one waits for the run, so that the next need not.
        run = json.loads(line)
        if not (pid := fork()):
            become(run)
            return
        write(run["pid"], pid)
        write(run["code"], os.waitstatus_to_exitcode(waitpid(pid, 0)[1]))
        os._exit(0)
    with contextlib.suppress(ChildProcessError):
        while True:  # for what the runs took to count as this process's
            waitpid(-1, 0)
    sys.exit(0)


def become(run: dict[str, Any]) -> None:
    """Make this process the run, as if it had been started so."""
    os.setsid()
    if run["netns"]:
        namespace = os.open(run["netns"], os.O_RDONLY)
        assert ctypes.CDLL(None).setns(namespace, CLONE_NEWNET) == 0
        os.close(namespace)
    for number, path in enumerate((os.devnull, run["out"], run["err"])):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0)  # noqa: SIM115 - the old one may have read the next run's line
    os.environ.clear()
    os.environ.update(run["environ"])
    # /proc/…/environ stays that of the process before the fork: `killing.py` looks for this.
    if mark := run["environ"].get("KILLING"):
        Path("/proc/self/comm").write_text(mark[:15])
    sys.argv[1:] = run["words"]


def write(path: str, number: int) -> None:
    """A file that is whole as soon as it is there."""
    Path(f"{path}.part").write_text(str(number))
    Path(f"{path}.part").rename(path)


FakeConnector.run_shell_command = recorded  # type: ignore[method-assign]
if sys.argv[1:] == ["--forks"]:
    fork_runs()
sys.exit(main())

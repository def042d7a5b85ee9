"""pyinfra's CLI, which writes each command of a @fake host as a JSON line to $HOME/commands.

    recorded.py INVENTORY deploy.py …   # once
    recorded.py --forks                 # each line on stdin, a JSON object, is a run of its own

With --forks this process imports pyinfra, and every run is a fork of it: most of a short run's time
is that import. A line says `words`, `environ`, and the files `out` and `err`; the answer on stdout
is the run's exit code, a line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.getcwd())

from gevent import monkey
from pyinfra.connectors.fake import FakeConnector
from pyinfra_cli.main import main

answer = FakeConnector.run_shell_command


def recorded(self: FakeConnector, command: Any, *args: Any, **kwargs: Any) -> Any:
    text = command if isinstance(command, str) else command.get_masked_value()
    with (Path(os.environ["HOME"]) / "commands").open("a") as record:
        record.write(json.dumps([self.host.name, text]) + "\n")
    return answer(self, command, *args, **kwargs)


def fork_runs() -> None:
    """Returns in a fork for each run, which is then as if it had been started so; the process
    itself ends with its stdin."""
    # As long as nothing has used gevent there is no hub that a fork would share.
    fork, waitpid = monkey.get_original("os", "fork"), monkey.get_original("os", "waitpid")
    for line in sys.stdin:
        run = json.loads(line)
        if pid := fork():
            code = os.waitstatus_to_exitcode(waitpid(pid, 0)[1])
            print(code, flush=True)
            continue
        os.environ.clear()
        os.environ.update(run["environ"])
        for number, path in enumerate((os.devnull, run["out"], run["err"])):
            os.dup2(os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY), number)
        sys.argv[1:] = run["words"]
        return
    sys.exit(0)


FakeConnector.run_shell_command = recorded  # type: ignore[method-assign]
if sys.argv[1:] == ["--forks"]:
    fork_runs()
sys.exit(main())

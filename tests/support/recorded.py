"""pyinfra's CLI, which writes each command of a @fake host as a JSON line to $HOME/commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.getcwd())

from pyinfra.connectors.fake import FakeConnector
from pyinfra_cli.main import main

RECORD = Path(os.environ["HOME"]) / "commands"
answer = FakeConnector.run_shell_command


def recorded(self: FakeConnector, command: Any, *args: Any, **kwargs: Any) -> Any:
    text = command if isinstance(command, str) else command.get_masked_value()
    with RECORD.open("a") as record:
        record.write(json.dumps([self.host.name, text]) + "\n")
    return answer(self, command, *args, **kwargs)


FakeConnector.run_shell_command = recorded  # type: ignore[method-assign]
sys.exit(main())

"""A deploy that opens a way from the first node to the others and uses it, for test_carry.py.

--data asks=[[STDIN, WORD, …], …]  commands that every target asks the source for; WAY stands for
                            the way's own words
--data folder=FOLDER        what the way lets them read
--data out=FILE             where the answers go, as JSON: node name → [[ok, text], …]
--data killed=true          the controller dies while the way is open
"""

import json
import os
import signal
from pathlib import Path

from pyinfra import host, inventory
from pyinfra.api import FunctionCommand, Host, operation

from cluster.command import Argv, Command
from cluster.findings import Refused
from operations import shell
from operations.copy import Tunnel, open_tunnel

HEAD, *OTHERS = sorted(inventory, key=lambda h: h.name)


def words(opened: Tunnel, target: Host, parts: list[str]) -> Argv:
    argv = [list(opened.ssh(target.name)) if word == "WAY" else [word] for word in parts]
    return tuple(word for some in argv for word in some)


def ask(opened: Tunnel, target: Host) -> list[tuple[bool, str]]:
    answers = [
        shell.run_command(target, Command(words(opened, target, argv), 30, stdin, kill=False))
        for stdin, *argv in host.data.asks
    ]
    return [(answer.ok, answer.text) for answer in answers]


def carry(state: object, host: Host) -> bool:
    try:
        others, folder = {h.name: h for h in OTHERS}, host.data.get("folder", "")
        with open_tunnel(HEAD, others, host.data.address, 60, folder=folder) as opened:
            outputs = shell.on_all(OTHERS, lambda target: ask(opened, target))
            Path(host.data.out).write_text(json.dumps(outputs))
            if host.data.get("killed"):
                os.kill(os.getpid(), signal.SIGKILL)
    except Refused as refused:
        host.log(str(refused))
        return False
    return True


@operation()
def carried():
    yield FunctionCommand(carry, (), {})


if host.name == HEAD.name:
    carried(name="Carry")

"""Change ufw without ever cutting SSH: the node itself reverts what is not confirmed."""

import time
from collections.abc import Generator

import gevent
from paramiko import SSHException
from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.exceptions import ConnectError

from cluster.command import Command, load_script
from cluster.node.firewall import UfwChange
from cluster.node.host import as_root
from cluster.printable import tail
from operations import shell

# Seconds from the beginning of a change, after which a node reverts it by itself.
REVERT_SECONDS = 60
# Seconds for a new SSH connection; sshd answers within one, unless its DNS look-ups fail.
LOGIN_SECONDS = 15
# Seconds between the last try and the node's own timer.
MARGIN = 3

_REVERT = load_script(__file__, "scripts/firewall_revert.sh")

_APPLY = load_script(__file__, "scripts/firewall_apply.sh")

_KEEP = load_script(__file__, "scripts/firewall_keep.sh")


# Succeeds once nothing is left of a change.
_TAKEN_BACK = 'for it in /run/spark-serving-firewall*; do [ ! -e "$it" ] || exit 1; done'


@operation()
def changed(
    change: UfwChange, seconds: int = REVERT_SECONDS
) -> Generator[FunctionCommand, None, None]:
    """Change ufw's rules, and prove that a new SSH connection gets in afterwards.

    + change: the commands for ufw
    + seconds: after which the node puts the firewall back as it was, if no connection got in
    """
    if change:
        yield FunctionCommand(_change, (change, seconds), {})
    else:
        host.noop("ufw is already configured")


def _change(state: State, host: Host, change: UfwChange, seconds: int) -> bool:
    until = time.monotonic() + seconds
    # The change may cut its own connection, which proves nothing: half the time is for the proof.
    half = seconds // 2
    script = ("sh", "-c", _APPLY, "sh", str(seconds), _REVERT)
    argv = ("timeout", str(half), *as_root(*script))
    lines = "".join("\t".join(words) + "\n" for words in change.commands())
    output = shell.run_command(host, Command(argv, half + 1, lines, kill=False))
    if "untouched" in output.out:
        host.log_styled(tail("\n".join(output.err)), fg="red")
        return False
    if not output.ok and not output.lost:
        return _undo(host, f"ufw failed: {output.tail}", until)
    left = max(MARGIN, until - time.monotonic() - MARGIN)
    if why := fresh_login(host, min(LOGIN_SECONDS, left)):
        return _undo(host, f"a new SSH connection failed ({why})", until)
    if not shell.run_command(host, _as_root(_KEEP, 20)).ok:
        return _undo(host, f"no new SSH connection succeeded within {seconds} s", until)
    here = not hasattr(host.connector, "client")
    proof = (
        "this is the node itself, so SSH was not tried"
        if here
        else "a new SSH connection succeeded"
    )
    host.log(f"{proof}: the change is kept")
    return True


def _as_root(script: str, seconds: int) -> Command:
    return Command(as_root("sh", "-c", script), seconds, kill=False)


def fresh_login(host: Host, seconds: float = LOGIN_SECONDS) -> str:
    """Why a new connection to the node fails, beside the existing one; "" if it works.

    @local has no connection: there the rules alone vouch for SSH.
    """
    connector = type(host.connector)(host.state, host)
    try:
        with gevent.Timeout(seconds, TimeoutError(f"no answer in {seconds:.0f} s")):
            connector.connect()
            ok, output = connector.run_shell_command(StringCommand("true"), False, False)
        return "" if ok else output.output
    except (OSError, EOFError, SSHException, ConnectError) as e:
        return str(e) or type(e).__name__
    finally:
        if client := getattr(connector, "client", None):
            client.close()


def _undo(host: Host, why: str, until: float) -> bool:
    """Have the node revert the change, now or by its own timer; always False."""
    shell.run_command(host, _as_root(_REVERT, 10))
    taken_back = Command(("sh", "-c", _TAKEN_BACK), 20, kill=False)
    while True:
        lost = fresh_login(host)
        if not lost:
            done = shell.run_command(host, taken_back)
            lost = "" if done.ok else done.text or "the node is still reverting"
        if not lost:
            host.log_styled(f"{why}; the firewall is restored, and SSH works", fg="red")
            return False
        if time.monotonic() > until + LOGIN_SECONDS:
            host.log_styled(f"{why}; and none gets in now: {lost}", fg="red")
            return False
        gevent.sleep(1)

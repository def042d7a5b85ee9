"""Settings of a node's system: what is set already, and the commands for the rest."""

from collections.abc import Iterator
from dataclasses import dataclass

from cluster import command, findings
from cluster.node.readings import Shown
from cluster.settings.schema import Settings

EARLYOOM = "/etc/default/earlyoom"
_ROOT = command.load_script(__file__, "as_root.sh")
# The kernel reclaims page cache for itself, but CUDA does not see it as free on unified memory.
_DROP = "sync; echo 3 >/proc/sys/vm/drop_caches"


@dataclass(frozen=True)
class HostSetup(Shown):
    """How a node's system is set up.

    + login: the user that SSH logs in as
    + linger: its processes, and IPC objects, survive the end of its last session
    + remove_ipc: logind's RemoveIPC; None if logind did not answer
    + apt: the system installs its packages with apt
    + earlyoom: its package is installed
    + no_root: why the login can't become root; "" where it can
    """

    login: str
    linger: bool = False
    remove_ipc: bool | None = None
    apt: bool = True
    earlyoom: bool = False
    no_root: str = ""


def as_root(*words: str) -> command.Argv:
    """The command, run as root: any other login needs sudo without a password."""
    return ("sh", "-c", _ROOT, "sh", *words)


def no_root(node: str, words: str) -> findings.Finding:
    """A login that may not become root; `words`: sudo's own message."""
    what = f"the login cannot become root without a password: {words}"
    cure = (
        'echo "$USER ALL=(ALL) NOPASSWD:ALL" | sudo tee /etc/sudoers.d/spark-serving, '
        f"on {node}; remove it afterwards"
    )
    return findings.error(what, node, cure, key="no-root")


def drop_caches(image: str) -> command.Command:
    """Drop the page cache through any local image with a shell, so that no sudo is needed."""
    run = ("docker", "run", "--rm", "--privileged", "--network", "none", "--pull", "never")
    return command.Command((*run, "--entrypoint", "sh", image, "-c", _DROP), 120)


def enable_linger(login: str) -> command.Command:
    return command.Command(("loginctl", "enable-linger", login), 30)


def setting_objections(
    node: str, setup: HostSetup, settings: Settings
) -> Iterator[findings.Finding]:
    """Why a node can't have these settings; nothing where it can."""
    needs_root = settings.linger or settings.earlyoom
    if needs_root and setup.no_root:
        yield no_root(node, setup.no_root)
    if settings.earlyoom and not setup.earlyoom and not setup.apt:
        yield findings.error(
            "earlyoom=true installs its package with apt, which is not there",
            node,
            "install earlyoom by hand, or leave the setting out",
            key="no-apt",
        )


def untouched_settings(setup: HostSetup, settings: Settings) -> Iterator[str]:
    """What stays as it is on a node because no setting changes it, a line each."""
    if not settings.linger:
        now = "on" if setup.linger else "off"
        risk = ""
        if settings.ipc == "host" and setup.remove_ipc and not setup.linger:
            risk = ": RemoveIPC will delete the semaphores of ipc=host; set linger=true"
        yield f"linger=false: {setup.login}'s stays {now}{risk}"
    if not settings.earlyoom:
        now = "installed" if setup.earlyoom else "not installed"
        yield f"earlyoom=false: it is {now}, and stays so"

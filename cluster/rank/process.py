"""Commands for a rank that is a plain process, which carries its spec in its arguments."""

import sys

from cluster.command import Argv, Command, load_script
from cluster.node.readings import Rank
from cluster.rank.spec import Spec

NAME = "--spark-serving-name="
LABEL = "--spark-serving-spec="
LOGS = "$HOME/.local/state/spark-serving"

# $1 is the rank's name, the rest its command. The engine starts a session of its own. Only the
# command is in the background: a list would keep bash's subshell there, and its stdout open.
_START = f"""
mkdir -p "{LOGS}" && log="{LOGS}/$1.log" && shift &&
{{ nohup "$@" >"$log" 2>&1 </dev/null & echo $!; }}
"""
_STOP = load_script(__file__, "stop_process.sh")


def _sh(seconds: int, script: str, *args: str) -> Command:
    # A Mac has no `timeout`.
    return Command(("sh", "-c", script.strip(), "sh", *args), seconds, kill=False)


def engine_argv(spec: Spec) -> Argv:
    """The process itself."""
    engine = (sys.executable, "-m", "engines.smollm2")
    return (*engine, f"{NAME}{spec.name}", f"{LABEL}{spec.dump()}")


def create(spec: Spec, *, cdi: bool = False, image_id: str = "") -> None:
    """Nothing to do: a process exists only while it runs."""


def keep(name: str, policy: str) -> None:
    """Nothing to do: nothing restarts a process."""


def release(name: str) -> None:
    """Nothing to do: a process has no restart policy."""


def start(spec: Spec) -> Command:
    environment = tuple(f"{name}={value}" for name, value in sorted(spec.env.items()))
    return _sh(90, _START, spec.name, "env", *environment, *engine_argv(spec))


def stop(rank: Rank, seconds: int) -> Command:
    return _sh(seconds + 60, _STOP, rank.id, f"{NAME}{rank.name}", str(seconds))


def rename(name: str, new: str) -> None:
    """Not possible: the name is in the process's arguments."""


def remove(name: str) -> Command:
    """Remove the log, which is all that is left of a process that has ended."""
    return _sh(60, f'rm -f "{LOGS}/$1.log"', name)


def logs(name: str, lines: int, *, earlier: bool = False) -> Command:
    """The last lines since its start: the log is written anew then."""
    return _sh(30, f'tail -n "$2" "{LOGS}/$1.log"', name, str(lines))

"""Command words for a rank as a plain process, which carries its spec in its arguments."""

from __future__ import annotations

import sys

from cluster.node.readings import Rank
from cluster.spec import Spec
from cluster.words import Words

NAME = "--spark-serving-name="
LABEL = "--spark-serving-spec="
LOGS = "$HOME/.local/state/spark-serving"

# $1 is the rank's name, the rest its command. The engine starts a session of its own. Only the
# command is in the background: a list would keep bash's subshell there, and its stdout open.
_START = f"""
mkdir -p "{LOGS}" && log="{LOGS}/$1.log" && shift &&
{{ nohup "$@" >"$log" 2>&1 </dev/null & echo $!; }}
"""
# $1 is the pid, $2 the marker that must still be in its arguments, $3 the seconds until SIGKILL.
# A zombie has ended: in a container without an init nobody ever reaps it.
_STOP = """
ps -o args= -p "$1" | grep -qF -e "$2" || exit 0
kill -TERM "$1"; i=0
while ps -o stat= -p "$1" | grep -q '^[^Z]'; do
  [ "$i" -ge $(($3 * 5)) ] && kill -KILL "$1"; i=$((i + 1)); sleep 0.2
done
"""


def _sh(script: str, *args: str) -> Words:
    return ("sh", "-c", script.strip(), "sh", *args)


def argv(spec: Spec) -> Words:
    """The process itself."""
    engine = (sys.executable, "-m", "engines.smollm2")
    return (*engine, f"{NAME}{spec.name}", f"{LABEL}{spec.dump()}")


def create(spec: Spec, *, cdi: bool = False) -> Words:
    """A process is there when it runs."""
    return ()


def keep(name: str, policy: str) -> Words:
    """Nothing restarts a process."""
    return ()


def release(name: str) -> Words:
    return ()


def start(spec: Spec) -> Words:
    environment = tuple(f"{name}={value}" for name, value in sorted(spec.env.items()))
    return _sh(_START, spec.name, "env", *environment, *argv(spec))


def stop(rank: Rank, seconds: int) -> Words:
    return _sh(_STOP, rank.id, f"{NAME}{rank.name}", str(seconds))


def rename(name: str, new: str) -> Words:
    """A process keeps the name in its arguments."""
    return ()


def remove(name: str) -> Words:
    """What is left of an ended process is its log."""
    return _sh(f'rm -f "{LOGS}/$1.log"', name)


def logs(name: str, lines: int, *, earlier: bool = False) -> Words:
    """The last lines since its start: the log is written anew then."""
    return _sh(f'tail -n "$2" "{LOGS}/$1.log"', name, str(lines))

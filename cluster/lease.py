"""One operator at a time: the lease on a group, and the commands that acquire, refresh and release
it.

A lease is a file on the head, `<group>.lease`, in a folder that every login may write. Its age is
the file's, by the head's own clock: controllers' clocks do not matter. Each script runs under
`flock` of the parent folder; without flock (a Mac) two runs that take over the same stale lease in
the same instant may both succeed.

Anything but a file under a lease's name (a pipe, a link, a device) is no lease: it is never opened,
and a run that takes the lease replaces it. The folder has no sticky bit, so that one login can
replace another's stale lease.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import msgspec

from cluster.command import Command, load_script
from cluster.findings import Finding, error
from cluster.printable import printable
from cluster.settings.schema import NAMES

REFRESH_SECONDS = 10
STALE_SECONDS = 60
# Seconds since the last refresh began; less than STALE_SECONDS, so that a run gives its lease up
# before the head calls it stale.
LOST_SECONDS = 50
# Gone after a reboot, writable for every login on Ubuntu and its like; else TMPDIR or /tmp.
BASE = "/run/lock"
# Settings whose value may hold a secret, or be one by mistake.
HIDDEN = ("env", "extra_args", "hf_token_file", "api_key_file")
How = Literal["taken", "stale", "held", "ours", "gone"]
_ANSWER = re.compile(rf"(?P<how>{'|'.join(get_args(How))})(?: (?P<age>-?[0-9]{{1,12}}))?")
# Characters of a lease's file that are shown.
MOST_SHOWN = 500


@dataclass(frozen=True)
class Lease:
    """Who converges a group.

    + owner, host: login and machine of the controller
    + started: Unix time, by the controller's clock
    + command: its pyinfra command, without any secret
    + id: random, one for each run
    """

    owner: str
    host: str
    started: float
    command: str
    id: str

    def dump(self) -> str:
        return msgspec.json.encode(self).decode()

    def __str__(self) -> str:
        # Any login of the node can write the file: nothing of it may steer a terminal, or fill it.
        try:
            since = datetime.fromtimestamp(self.started, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        except (OverflowError, OSError, ValueError):
            since = "an invalid time"
        description = f"{self.owner}@{self.host}, since {since}: {self.command}"
        return printable(description[:MOST_SHOWN])


@dataclass(frozen=True)
class LeaseAnswer:
    """A script's answer.

    + how: the state of the lease, or what the script did
    + age: of the file, seconds
    + lease: its content; None where it is no lease of ours
    """

    how: How
    age: int = 0
    lease: Lease | None = None


def parse_lease(text: str) -> Lease | None:
    """A lease from its file; None where it can't be read as one."""
    try:
        return msgspec.json.decode(text, type=Lease)
    except (msgspec.DecodeError, RecursionError):
        return None


def parse_lease_answer(out: Sequence[str]) -> LeaseAnswer | None:
    """A script's answer: `HOW [AGE]`, then the file; None where it is no such answer."""
    match = _ANSWER.fullmatch(out[0]) if out else None
    if match is None:
        return None
    return LeaseAnswer(match["how"], int(match["age"] or 0), parse_lease("\n".join(out[1:])))  # type: ignore[arg-type]


def describe_holder(lease: Lease | None) -> str:
    return str(lease) if lease else "an unidentified run"


def held_by_other(group: str, there: LeaseAnswer, head: str) -> Finding:
    """The finding that another run holds the group."""
    left = max(1, STALE_SECONDS - there.age)
    return error(
        f"another run holds the lease on the group {group}: {describe_holder(there.lease)}",
        head,
        f"wait until it ends; if it is dead, its lease expires in {left} s",
        key="lease-held",
    )


def lease_lost(group: str, holder: Lease | None, head: str) -> Finding:
    """The finding that this run no longer holds the group: another took it over, or the head can't
    be reached."""
    what = f"taken over by {holder}" if holder else f"not refreshed within {LOST_SECONDS} s"
    return error(
        f"this run no longer holds the group {group}: its lease was {what}",
        head,
        "run this again: it starts from the current state",
        key="lease-lost",
    )


def redacted_command(words: Sequence[str], data: Mapping[str, str]) -> str:
    """A command to show to others: `words` (program, inventory, files), and the settings.

    The value of a setting that may hold a secret, or that is not ours, is replaced by "***".
    """
    settings = [f"--data {name}={without_secret(name, value)}" for name, value in data.items()]
    return " ".join([*words, *settings])


def without_secret(name: str, value: str) -> str:
    secret = name not in NAMES or name in HIDDEN or ("://" in value and "@" in value)
    return "***" if secret else value


_SCRIPT = load_script(__file__, "lease.sh")


def acquire_lease(group: str, lease: Lease, seconds: int, base: str = BASE) -> Command:
    """Take the lease if it is free or stale; otherwise print who holds it."""
    command = _command(seconds, "acquire", base, group, lease.id, str(STALE_SECONDS))
    return command.with_stdin(lease.dump())


def refresh_lease(group: str, id: str, seconds: int, base: str = BASE) -> Command:
    """Renew the lease, if it is still the run's own."""
    return _command(seconds, "refresh", base, group, id)


def release_lease(group: str, id: str, seconds: int, base: str = BASE) -> Command:
    """Give up the lease, if it is still the run's own; nothing is left behind."""
    return _command(seconds, "release", base, group, id)


def read_lease(group: str, seconds: int, base: str = BASE) -> Command:
    """Print who holds the lease, and its age; nothing where nobody does."""
    return _command(seconds, "read", base, group)


def _command(seconds: int, verb: str, *values: str) -> Command:
    # A Mac has no `timeout`.
    return Command(("sh", "-c", _SCRIPT, "sh", verb, *values), seconds, kill=False)

"""How a node's system is set up: who configures its interfaces, and what its login may keep."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network

import msgspec
from msgspec import Struct
from pyinfra.api import StringCommand

from cluster.node.host import HostSetup
from cluster.node.netplan import FILE, GUARD, Claim, Setup
from facts.fact import Fact, quote
from facts.network import SBIN

# Ends well even where sudo wants a password: pyinfra would ask for it.
_TRY_ROOT = """
[ "$(id -u)" != 0 ] || exec "$@"
why=$(sudo -n true 2>&1) || { printf 'no-root %s\\n' "$why"; exit 0; }
exec sudo -n -- "$@"
""".strip()

# sudo hides SSH_CONNECTION: an ancestor has it. Words of files are printed by name alone: they hold
# Wi-Fi passwords. NetworkManager's files in /run are its own passing ones, or netplan's.
_NETWORK = (
    SBIN
    + """
own=$1 guard=$2; shift 2
! systemctl is-active -q "$(cat "$guard/unit" 2>/dev/null)" 2>/dev/null || echo guarded
pid=$$ ssh=
while [ "${pid:-0}" -gt 1 ] && [ -z "$ssh" ]; do
  ssh=$(tr '\\0' '\\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=//p')
  pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
done
if [ -n "$ssh" ]; then
  at=$(echo "$ssh" | cut -d' ' -f3 | sed 's/^::ffff://; s/%.*//')
  echo "ssh $(ip -o addr show to "$at" 2>/dev/null | sed -n '1s/^[0-9]*: *\\([^ @]*\\).*/\\1/p')"
fi
! command -v netplan >/dev/null || echo netplan
echo "routes $(ip -j -4 route)"
for f in /etc/netplan/*.yaml /run/netplan/*.yaml /lib/netplan/*.yaml \\
    /etc/systemd/network/*.network /etc/NetworkManager/system-connections/* \\
    /etc/network/interfaces /etc/network/interfaces.d/*; do
  [ -f "$f" ] && [ "$f" != "$own" ] || continue
  text=$(sed 's/#.*//' "$f")
  for word; do
    ! printf '%s\\n' "$text" | grep -qwiF -e "$word" || printf 'claim\\t%s\\t%s\\n' "$f" "$word"
  done
  key='[[:space:]]*[:=][[:space:]]*'
  value='["'\\'']?([^]"'\\'',}]*)'
  printf '%s\\n' "$text" | sed -nE "s~^(.*[^a-z-])?([Nn]ame|interface-name)$key$value.*~\\3~p" |
    while read -r names; do printf 'pattern\\t%s\\t%s\\n' "$f" "$names"; done
  printf '%s\\n' "$text" | sed -nE "s~^(.*[^a-z-])?[Dd]river$key$value.*~\\2~p" |
    while read -r names; do printf 'driver\\t%s\\t%s\\n' "$f" "$names"; done
done
[ ! -f "$own" ] || { echo own; cat "$own"; }
"""
).strip()

_HOST = """
[ "$(id -u)" = 0 ] || why=$(sudo -n true 2>&1) || printf 'no-root %s\\n' "$why"
login=${SUDO_USER:-$(id -un)}
echo "login $login"
[ ! -e "/var/lib/systemd/linger/$login" ] || echo linger
busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \\
  org.freedesktop.login1.Manager RemoveIPC 2>/dev/null | sed 's/^b /removeipc /'
! command -v apt-get >/dev/null || echo apt
dpkg-query -W -f '${Status}\\n' earlyoom 2>/dev/null | sed -n 's/^install ok installed$/earlyoom/p'
""".strip()


class NetworkSetup(Fact[Setup]):
    """Who configures a node's interfaces, where its routes lead, and which one SSH came in by.

    + names: interfaces and MAC addresses to look for in configuration files
    """

    def command(self, names: Sequence[str] = ()) -> StringCommand:
        return quote(("sh", "-c", _TRY_ROOT, "sh", "sh", "-c", _NETWORK, "sh", FILE, GUARD, *names))

    def parse(self, output: list[str]) -> Setup:
        lines = output
        end = lines.index("own") if "own" in lines else len(lines)
        told = dict(line.partition(" ")[::2] for line in lines[:end] if "\t" not in line)
        tabbed = [line.split("\t") for line in lines[:end] if line.count("\t") == 2]
        claims = [claim for words in tabbed for claim in _claims(*words)]
        routes = msgspec.json.decode(told.get("routes") or "[]", type=list[_Route])
        return Setup(
            netplan="netplan" in told,
            ssh=told.get("ssh", ""),
            by_ssh="ssh" in told,
            routes=tuple((r.network, r.dev) for r in routes if r.dst != "default"),
            claims=tuple(dict.fromkeys(claims)),
            own=None if end == len(lines) else "\n".join(lines[end + 1 :]),
            guarded="guarded" in told,
            no_root=told.get("no-root", ""),
        )


class _Route(Struct):
    """What we read of a line of `ip -j route`."""

    dst: str
    dev: str = ""

    @property
    def network(self) -> str:
        """The destination as it stands; ValueError where it is none."""
        IPv4Network(self.dst, strict=False)
        return self.dst


def _claims(kind: str, file: str, words: str) -> list[Claim]:
    """`words`: several names or patterns may stand after one key of systemd's."""
    return [Claim(file, word, driver=kind == "driver") for word in words.split()]


class HostSettings(Fact[HostSetup]):
    """The login, whether it lingers, logind's RemoveIPC, and what is installed."""

    def command(self) -> str:
        return _HOST

    def parse(self, output: list[str]) -> HostSetup:
        told = dict(line.partition(" ")[::2] for line in output)
        ipc = told.get("removeipc")
        return HostSetup(
            login=told["login"],
            linger="linger" in told,
            remove_ipc=None if ipc is None else ipc == "true",
            apt="apt" in told,
            earlyoom="earlyoom" in told,
            no_root=told.get("no-root", ""),
        )

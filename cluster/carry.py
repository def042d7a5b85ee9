"""A one-time way for files from node to node over the fabric: the words that open and close it.

Each target gets an ed25519 key of its own, kept in memory there. The source's login takes it for
a limited time, from that target's fabric address alone, and only to send: sshd runs `DISPATCHER`
whatever the key asks for. The target knows the source by its real host keys, read beforehand over
the management connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.findings import Finding, error
from cluster.words import Words, bounded

# Marks all that a way leaves on nodes: lines of authorized_keys, and folders in memory.
MARKER = "spark-serving-carry"
# Under this name the target's known_hosts has the source, whatever its address and port.
ALIAS = "spark-serving-source"
# A forced command, so one line without quotes of any kind; $1: seconds that a transfer may take.
# Nothing is evaluated: what was asked for is split at blanks, and run as it is. rsync may only
# send, so every option that could write a file is left out, -s among them (it brings more options
# later); what follows e. in rsync's letters tells its version, and is no option.
DISPATCHER = (
    r"set -f; c=$SSH_ORIGINAL_COMMAND;"
    r" no() { echo spark-serving: this key only sends files and images >&2; exit 126; };"
    r" case $c in (*[!A-Za-z0-9\ ./:@_=,+%~-]*) no;; esac;"
    r" case $c in (true) exit 0;; (docker\ save\ *) for w in $c; do"
    r" case $w in (-*) no;; esac; done;;"
    r" (rsync\ --server\ --sender\ *) for w in $c; do case $w in"
    r" (--server|--sender|--numeric-ids|--inplace|--partial|--append|--append-verify|--size-only"
    r"|--files-from=-|--from0|--safe-links|--copy-unsafe-links|--no-implied-dirs|--no-[a-zA-Z]"
    r"|--log-format=%i|--bwlimit=*|--timeout=*|--checksum-choice=*|--block-size=*) ;; (--*) no;;"
    r" (-*) case ${w%%e.*} in (*[!-vlogDtprLHcuWISxXAnR]*) no;; esac;; esac; done;; (*) no;; esac;"
    r" exec timeout --kill-after=5 $1 $c"
)
# The end of our lines: .kept; .joined: the line before had no newline; .file, .folder: so much of
# ~/.ssh/authorized_keys is ours.
_CLEAR = rf"""
set -eu
umask 077
folder=$HOME/.ssh file=$HOME/.ssh/authorized_keys new=
[ ! -e "$file" ] || file=$(readlink -f "$file")
trap 'rm -f "$new"' EXIT
replace() {{ new=${{file%/*}}/.{MARKER}.$$; : >"$new"; [ ! -e "$file" ] || cp -p "$file" "$new"; }}
clear() {{
  [ -e "$file" ] || return 0
  ours='s/.* {MARKER}-[0-9a-f]+\.([a-z]+)$/\1/p'
  made=$(LC_ALL=C sed -nE "$ours" "$file" | head -n 1)
  [ -n "$made" ] || return 0
  last=$(LC_ALL=C tail -n 1 "$file" | LC_ALL=C sed -nE "$ours")
  rm -f "${{file%/*}}/.{MARKER}".*
  replace
  LC_ALL=C sed -E '/ {MARKER}-[0-9a-f]+\.[a-z]+$/d' "$file" >"$new"
  [ "$made,$last" != joined,joined ] || truncate -s -1 "$new"
  case $made in (file|folder) if [ ! -s "$new" ]; then
    rm -f "$new" "$file"
    [ "$made" = file ] || rmdir "$folder" || :
    return 0
  fi;; esac
  mv "$new" "$file"
}}
"""
# Who logs in, the port of the sshd that management came through, and the host's own keys.
_SURVEY = (
    _CLEAR
    + r"""
clear
printf 'user %s\n' "$(id -un)"
set -- ${SSH_CONNECTION:-}
[ -z "${4:-}" ] || printf 'port %s\n' "$4"
for key in /etc/ssh/ssh_host_*_key.pub; do
  [ ! -r "$key" ] || { read -r type key rest <"$key"; printf 'key %s %s\n' "$type" "$key"; }
done
"""
)
# One line of stdin for each key: the address that it may come from, its type, the key.
_ADMIT = (
    _CLEAR
    + rf"""
clear
made=kept
[ -d "$folder" ] || {{ mkdir -m 700 "$folder"; made=folder; }}
if [ ! -e "$file" ]; then [ $made = folder ] || made=file
elif [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then made=joined; fi
until=$(unset TZ; date -d "@$(($(date +%s) + $2))" +%Y%m%d%H%M%S)
replace
[ $made != joined ] || echo >>"$new"
while read -r from type key; do
  printf 'restrict,from="%s",expiry-time="%s",command="exec sh -c '"'%s'"' carry %s" %s %s %s\n' \
    "$from" "$until" "$3" "$2" "$type" "$key" "{MARKER}-$1.$made"
done >>"$new"
mv "$new" "$file"
"""
)
# $1: the source's fabric address. Prints the folder, the own address on that way, and the key.
_MAKE_KEY = rf"""
set -eu
umask 077
for memory in /dev/shm "${{XDG_RUNTIME_DIR:-}}" "${{TMPDIR:-/tmp}}"; do
  [ -d "$memory" ] && [ -w "$memory" ] && break
done
for old in "$memory/{MARKER}.$1".*; do [ ! -O "$old" ] || rm -rf "$old"; done
command -v ssh-keygen ssh >/dev/null || {{ echo 'no ssh-keygen and ssh here' >&2; exit 1; }}
route=$(ip -o -4 route get "$1")
folder=$(mktemp -d "$memory/{MARKER}.$1.XXXXXXXX")
trap 'rm -rf "$folder"' EXIT
ssh-keygen -q -t ed25519 -N '' -C {MARKER} -f "$folder/key"
printf '%s\n' "$folder" "$(printf '%s\n' "$route" | sed -n 's/.* src \([0-9.]*\).*/\1/p')"
cat "$folder/key.pub"
trap - EXIT
"""
# known_hosts from stdin to $1; the rest is an ssh command.
_PROBE = 'umask 077; cat >"$1" && shift && exec "$@" true'


@dataclass(frozen=True)
class Source:
    """The sending node: its login, its sshd's port (0: not told), its host keys ("type key")."""

    user: str
    port: int
    host_keys: tuple[str, ...]


@dataclass(frozen=True)
class Key:
    """A target's one-time key: its folder in memory, the target's own address, "type key"."""

    folder: str
    address: str
    public: str

    @property
    def known_hosts(self) -> str:
        return f"{self.folder}/known_hosts"


def survey() -> Words:
    """On the source: clear what killed runs left, and read what `source` understands."""
    return bounded(30, "sh", "-c", _SURVEY)


def source(lines: Sequence[str]) -> Source | None:
    """What `survey` printed; None where it is no answer."""
    told = [line.partition(" ")[::2] for line in lines]
    first = dict(reversed(told))
    keys = tuple(value for name, value in told if name == "key")
    if not keys or not first.get("user"):
        return None
    return Source(first["user"], int(first.get("port", 0)), keys)


def make_key(address: str) -> Words:
    """On a target: a new key for the way from the source's `address`; older ones of it go."""
    return bounded(30, "sh", "-c", _MAKE_KEY, "sh", address)


def key(lines: Sequence[str]) -> Key | None:
    """What `make_key` printed; None where it is no answer."""
    if len(lines) != 3 or not lines[1]:
        return None
    kind, public, *_ = lines[2].split()
    return Key(lines[0], lines[1], f"{kind} {public}")


def admit(name: str, seconds: int) -> Words:
    """On the source: take the keys on stdin (`offered`) for so many seconds; earlier ones go.

    + name: hexadecimal digits that no other way has
    """
    return bounded(30, "sh", "-c", _ADMIT, "sh", name, str(seconds), DISPATCHER)


def offered(keys: Sequence[Key]) -> str:
    return "".join(f"{key.address} {key.public}\n" for key in keys)


def probe(key: Key, ssh: Words) -> Words:
    """On a target: write known_hosts from stdin (`known`), and try the way once."""
    return bounded(40, "sh", "-c", _PROBE, "sh", key.known_hosts, *ssh)


def known(source: Source) -> str:
    return "".join(f"{ALIAS} {host_key}\n" for host_key in source.host_keys)


def clear() -> Words:
    """On the source: no key of ours is taken any more."""
    return bounded(30, "sh", "-c", f"{_CLEAR}clear")


def drop(key: Key) -> Words:
    """On a target: its key is gone."""
    return bounded(30, "rm", "-rf", "--", key.folder)


def options(key: Key, port: int) -> Words:
    """ssh and its options, as run on a target. aes128-gcm is the fastest where AES is in the
    processor; a peer that is silent for 30 s ends the transfer."""
    given = (
        *("IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes", "LogLevel=ERROR"),
        *("StrictHostKeyChecking=yes", f"HostKeyAlias={ALIAS}", "UpdateHostKeys=no"),
        *(f"UserKnownHostsFile={key.known_hosts}", "GlobalKnownHostsFile=/dev/null"),
        *("ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=6"),
        *("Compression=no", "Ciphers=^aes128-gcm@openssh.com", f"BindAddress={key.address}"),
    )
    words = [word for option in given for word in ("-o", option)]
    return ("ssh", "-F", "none", "-T", "-p", str(port), "-i", f"{key.folder}/key", *words)


def unreadable(node: str, said: str) -> Finding:
    """The source did not tell its keys, or does not take ours."""
    return error(
        f"the way for files from here cannot be opened: {_line(said)}",
        node,
        "on it: ls -la ~/.ssh /etc/ssh/ssh_host_*_key.pub; sudo apt install openssh-server",
    )


def no_key(node: str, address: str, said: str) -> Finding:
    return error(
        f"a one-time key for files from {address} cannot be made: {_line(said)}",
        node,
        f"on it: ip route get {address}; sudo apt install openssh-client",
    )


def closed(node: str, sender: str, address: str, port: int, said: str) -> Finding:
    """Why the way does not carry, from ssh's own words."""
    if "host key" in said.lower() or "HOST IDENTIFICATION" in said:
        return error(
            f"what answers on {address} port {port} is not {sender}: it has another host key",
            node,
            f"ip -br addr on every node shows who else has {address}",
        )
    if "Permission denied" in said:
        return error(
            f"sshd of {sender} does not take a key of ~/.ssh/authorized_keys: {_line(said)}",
            node,
            f"on {sender}: chmod go-w ~ ~/.ssh; sudo sshd -T | grep -E 'keysfile|allow|deny'",
        )
    return error(
        f"sshd of {sender} does not answer on its fabric address {address} port {port}: "
        f"{_line(said)}",
        node,
        f"on {sender}: sudo ss -ltnp 'sport = {port}' (ListenAddress in /etc/ssh/sshd_config), "
        "and sudo ufw status",
    )


def _line(said: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"

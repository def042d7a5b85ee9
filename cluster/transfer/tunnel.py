"""A one-time way for files from node to node over the fabric: the words that open and close it.

Each target gets an ed25519 key of its own, kept in memory there. The source's login takes it for
a limited time, from that target's fabric address alone, and only to send the files of one folder,
or one image: sshd runs `DISPATCHER` whatever the key asks for. The target knows the source by its
real host keys, read beforehand over the management connection. What either node answers is taken
only for what it can be: it stands in the other's authorized_keys, and in ssh's words.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from cluster.command import Argv, Command
from cluster.findings import Finding, error

# Marks all that a way leaves on nodes: lines of authorized_keys, and folders in memory.
MARKER = "spark-serving-carry"
# Under this name the target's known_hosts has the source, whatever its address and port.
ALIAS = "spark-serving-source"
# A forced command, so one line without single quotes and backslashes. $1: the folder, or the file,
# that may be read; $2: the image; both in base64, "-" for none. Nothing is evaluated. `send` reads
# what is wanted from stdin, one file a line: bytes that are there already / its size ("-" for
# whatever it is) / its path below the folder; it sends the rests, one after another.
DISPATCHER = (
    "set -f; no() { echo spark-serving: this key only sends files and images >&2; exit 126; };"
    ' plain() { [ "$1" != - ] || no; printf %s "$1" | base64 -d || no; };'
    " case $SSH_ORIGINAL_COMMAND in (true) exit 0;;"
    ' ("docker save "*) image=$(plain "${2:--}") || exit;'
    ' [ "$SSH_ORIGINAL_COMMAND" = "docker save $image" ] || no; exec docker save -- "$image";;'
    " (send) ;; (*) no;; esac;"
    ' root=$(plain "${1:--}") || exit; root=$(realpath -e -- "$root") || exit;'
    " while IFS=/ read -r have size name; do"
    " case $have in (*[!0-9]*) no;; esac; case /$name/ in (*/../*) no;; esac;"
    ' file=$root; [ -f "$root" ] || file=$(realpath -e -- "$root/$name") || exit;'
    ' case $file in ("$root"|"$root"/*) ;; (*)'
    ' echo "spark-serving: $name is a link that leaves $root" >&2; exit 3;; esac;'
    ' [ -f "$file" ] || no; bytes=$(stat -c %s -- "$file") || exit;'
    ' [ "$size" = - ] || [ "$size" = "$bytes" ] ||'
    ' { echo "spark-serving: $name has $bytes bytes now, not $size" >&2; exit 3; };'
    ' dd if="$file" bs=1M iflag=skip_bytes skip="${have:-0}" status=none || exit; done'
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
  printf 'restrict,from="%s",expiry-time="%s",command="%s" %s %s %s\n' \
    "$from" "$until" "$3" "$type" "$key" "{MARKER}-$1.$made"
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


# What a node's answers can be: they become words of ssh, and lines of authorized_keys.
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_PORT = re.compile(r"[0-9]{1,5}")
_HOST_KEY = re.compile(r"[a-z0-9][a-z0-9@.-]* [A-Za-z0-9+/=]+")
_PUBLIC = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]+")
_FOLDER = re.compile(r"/[A-Za-z0-9_./@+-]+")


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


def survey() -> Command:
    """On the source: clear what killed runs left, and read what `source` understands."""
    return Command(("sh", "-c", _SURVEY), 30)


def source(lines: Sequence[str]) -> Source | None:
    """What `survey` printed; None where it is no answer."""
    told = [line.partition(" ")[::2] for line in lines]
    first = dict(reversed(told))
    keys = tuple(value for name, value in told if name == "key" and _HOST_KEY.fullmatch(value))
    user, port = first.get("user", ""), first.get("port", "0")
    if not keys or not _LOGIN.fullmatch(user) or not _PORT.fullmatch(port):
        return None
    return Source(user, int(port), keys)


def make_key(address: str) -> Command:
    """On a target: a new key for the way from the source's `address`; older ones of it go."""
    return Command(("sh", "-c", _MAKE_KEY, "sh", address), 30)


def key(lines: Sequence[str]) -> Key | None:
    """What `make_key` printed; None where it is no answer."""
    if len(lines) != 3:
        return None
    public = " ".join(lines[2].split()[:2])
    try:
        address = str(IPv4Address(lines[1]))
    except ValueError:
        return None
    fits = _FOLDER.fullmatch(lines[0]) and ".." not in lines[0] and _PUBLIC.fullmatch(public)
    return Key(lines[0], address, public) if fits else None


def admit(
    keys: Sequence[Key], name: str, seconds: int, *, folder: str = "", image: str = ""
) -> Command:
    """On the source: take these keys for so many seconds; earlier ones go.

    + name: hexadecimal digits that no other way has
    + folder, image: what they may read: the files of this folder (or this file), this image
    """
    granted = " ".join(b64encode(what.encode()).decode() or "-" for what in (folder, image))
    forced = f"exec timeout --kill-after=5 {seconds} sh -c '{DISPATCHER}' carry {granted}"
    # As sshd reads an option's value.
    quoted = forced.replace('"', '\\"')
    offered = "".join(f"{key.address} {key.public}\n" for key in keys)
    return Command(("sh", "-c", _ADMIT, "sh", name, str(seconds), quoted), 30, offered)


def probe(key: Key, source: Source, ssh: Argv) -> Command:
    """On a target: write the source into known_hosts, and try the way once."""
    known = "".join(f"{ALIAS} {host_key}\n" for host_key in source.host_keys)
    return Command(("sh", "-c", _PROBE, "sh", key.known_hosts, *ssh), 40, known)


def clear() -> Command:
    """On the source: no key of ours is taken any more."""
    return Command(("sh", "-c", f"{_CLEAR}clear"), 30)


def drop(key: Key) -> Command:
    """On a target: its key is gone."""
    return Command(("rm", "-rf", "--", key.folder), 30)


def options(key: Key, port: int) -> Argv:
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


def noisy(sender: str, said: str) -> Finding:
    """The source's login prints where files shall come: rsync and docker load end at it."""
    return error(
        f"its shell prints before what it sends to other nodes: {_line(said)}",
        sender,
        "let the login's ~/.bashrc begin with: [[ $- == *i* ]] || return",
    )


def _line(said: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"

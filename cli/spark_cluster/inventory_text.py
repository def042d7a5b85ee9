"""The text of a new inventory, and what may be in it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

# Names, addresses, and pyinfra's @local; a user or a port has a place of its own.
_NODE = re.compile(r"(@local|@?[A-Za-z0-9][A-Za-z0-9_.:/-]*)\Z")
OPTIONS = {"model": "--model", "hf_cache": "--hf-cache", "ssh_user": "--user"}
# Data whose value is a secret in itself; *_file and ssh_key name files.
_SECRET = re.compile(r"password|secret|token|api_key|passphrase", re.I)
_TEXT = '''\
"""{title}: written by spark-cluster init.

    pyinfra -y {file} deploy.py

The head is rank 0 and answers the API; workers are ranks 1, 2, … in this order. docs/settings.md
lists every setting.
"""

SETTINGS = {{
{settings}
}}

head = ([{head}], SETTINGS)
workers = ([{workers}], SETTINGS)
'''


@dataclass(frozen=True)
class InventoryText:
    """What the inventory is to say; data: what else all nodes share."""

    head: str
    workers: tuple[str, ...]
    model: str
    hf_cache: str
    user: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        user = {"ssh_user": self.user} if self.user else {}
        return {"model": self.model, "hf_cache": self.hf_cache, **user, **self.data}

    @property
    def reachable(self) -> bool:
        """Whether the API of this group can be reached from other machines."""
        local = str(self.data.get("host", "")).startswith("127.")
        return not local and self.data.get("runtime") != "process"

    def text(self, file: str) -> str:
        """The inventory, as Python."""
        count = 1 + len(self.workers)
        return _TEXT.format(
            title="One DGX Spark" if count == 1 else f"{count} DGX Sparks",
            file=file,
            settings="\n".join(f'    "{k}": {_literal(v)},' for k, v in self.settings.items()),
            head=_literal(self.head),
            workers=", ".join(map(_literal, self.workers)),
        )


def node_name(name: str) -> str:
    """A node's name as an inventory may have it; click.BadParameter for anything else."""
    if "@" in name[1:]:
        user, _, host = name.partition("@")
        raise click.BadParameter(f"{name}: the user has an option of its own: {host} --user {user}")
    if not _NODE.match(name):
        raise click.BadParameter(f"{name!r} is neither a name for `ssh NAME` nor @local")
    return name


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE words, typed as pyinfra's --data types them; click.BadParameter for a secret."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{word}: give NAME=VALUE")
        if name in OPTIONS:
            raise click.BadParameter(f"{name} has an option of its own: {OPTIONS[name]}")
        if _SECRET.search(name) and not name.endswith("_file"):
            raise click.BadParameter(f"{name}: an inventory is no place for a secret; name a file")
        if value.lower() in ("true", "false"):
            values[name] = value.lower() == "true"
            continue
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)

"""What `init` asks for if it is not given."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from spark_cluster.choice import find_model_or_fail, short_name
from spark_cluster.commands import ClusterError
from spark_cluster.inventory_text import InventoryText, node_name, parse_settings
from spark_cluster.project import Project

HF_CACHE = "/raid/hf-cache"
MODEL = "gpt-oss-120b"


def on_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def ask_inventory(
    project: Project,
    *,
    head: str | None,
    workers: Sequence[str],
    user: str | None,
    hf_cache: str | None,
    model: str | None,
    more: Sequence[str],
    ask: bool,
) -> InventoryText:
    """What was given, asked, or else the default; click.UsageError where a head is missing."""
    if head is None and not ask:
        raise click.UsageError("name the head: --head NAME (as in `ssh NAME`, or @local)")
    if head is None:
        here = "@local" if is_spark() else None
        head = _prompt("Head (as in `ssh NAME`; @local is this machine)", here, node_name)
    if not workers and ask:
        workers = _prompt("Workers, separated by spaces (empty: none)", "", _nodes)
    if user is None:
        user = _prompt("SSH user (empty: as in your SSH config)", "", str) if ask else ""
    if hf_cache is None:
        hf_cache = _prompt("Folder for weights on the nodes", HF_CACHE, _path) if ask else HF_CACHE

    def model_name(word: str) -> str:
        return short_name(find_model_or_fail(project, word))

    if model is None:
        question = "Model (spark-cluster models lists them)"
        model = _prompt(question, MODEL, model_name) if ask else MODEL
    return InventoryText(
        head=node_name(head),
        workers=tuple(map(node_name, workers)),
        model=model_name(model),
        hf_cache=_path(hf_cache),
        user=user,
        data=parse_settings(more),
    )


def is_spark() -> bool:
    """Whether this very machine has a QSFP port's HCA: it is one of the nodes, then."""
    devices = Path("/sys/class/infiniband")
    return devices.is_dir() and any(devices.iterdir())


def confirm(question: str) -> bool:
    """Yes or no, yes by default; an input that has ended agrees to nothing."""
    try:
        return click.confirm(question, default=True)
    except click.Abort as stopped:
        if isinstance(stopped.__context__, EOFError):
            return False
        raise


def _prompt(question: str, default: str | None, kind: Callable[[str], Any]) -> Any:
    """Ask until the answer is one."""
    while True:
        reply = click.prompt(question, default=default, show_default=bool(default))
        try:
            return kind(reply.strip())
        except (click.BadParameter, ClusterError) as error:
            click.echo(error.message, err=True)


def _nodes(words: str) -> list[str]:
    return [node_name(word) for word in words.replace(",", " ").split()]


def _path(word: str) -> str:
    if word.startswith(("/", "~/")) and ":" not in word:
        return word
    raise click.BadParameter(f"{word}: give an absolute path or one that starts with ~/")

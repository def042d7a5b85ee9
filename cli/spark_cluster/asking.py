"""What `init` asks for, where nobody said it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from spark_cluster.choice import model_of, name_of
from spark_cluster.commands import ClusterError
from spark_cluster.project import Project
from spark_cluster.written import Wanted, data, node

HF_CACHE = "/raid/hf-cache"
MODEL = "gpt-oss-120b"


def terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def wanted(
    project: Project,
    *,
    head: str | None,
    workers: Sequence[str],
    user: str | None,
    hf_cache: str | None,
    model: str | None,
    more: Sequence[str],
    ask: bool,
) -> Wanted:
    """What was given, asked, or else the default; click.UsageError where a head is missing."""
    if head is None and not ask:
        raise click.UsageError("name the head: --head NAME (what `ssh NAME` reaches, or @local)")
    if head is None:
        here = "@local" if is_spark() else None
        head = _prompt("Head (what `ssh NAME` reaches; @local is this machine)", here, node)
    if not workers and ask:
        workers = _prompt("Workers, space between (none: empty)", "", _nodes)
    if user is None:
        user = _prompt("SSH user (empty: SSH's own choice)", "", str) if ask else ""
    if hf_cache is None:
        hf_cache = _prompt("Folder for weights on the nodes", HF_CACHE, _path) if ask else HF_CACHE

    def meant(word: str) -> str:
        return name_of(model_of(project, word))

    if model is None:
        model = _prompt("Model (spark-cluster models lists them)", MODEL, meant) if ask else MODEL
    return Wanted(
        head=node(head),
        workers=tuple(map(node, workers)),
        model=meant(model),
        hf_cache=_path(hf_cache),
        user=user,
        data=data(more),
    )


def is_spark() -> bool:
    """Whether this very machine has a QSFP port's HCA: it is one of the nodes, then."""
    devices = Path("/sys/class/infiniband")
    return devices.is_dir() and any(devices.iterdir())


def agreed(question: str) -> bool:
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
        said = click.prompt(question, default=default, show_default=bool(default))
        try:
            return kind(said.strip())
        except (click.BadParameter, ClusterError) as error:
            click.echo(error.message, err=True)


def _nodes(words: str) -> list[str]:
    return [node(word) for word in words.replace(",", " ").split()]


def _path(word: str) -> str:
    if word.startswith(("/", "~/")) and ":" not in word:
        return word
    raise click.BadParameter(f"{word}: give an absolute path, or one that begins with ~/")

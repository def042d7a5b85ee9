"""`--data NAME=VALUE`, as pyinfra has it: what a deploy was given, the look at it needs too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

data_option: Callable[[Any], Any] = click.option(
    "--data",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting that differs from the inventory's, as the deploy was given it.",
)


def settings_of(data: Sequence[str]) -> dict[str, str]:
    """Name → value; click.BadParameter for a word without "="."""
    for word in data:
        if "=" not in word:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="--data")
    return dict(word.split("=", 1) for word in data)

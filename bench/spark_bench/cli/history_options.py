"""What the commands of `history` share: the store, and which results are meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spark_bench.history.filters import Filters
    from spark_bench.history.store import Store

Decorator = Callable[[Any], Any]

STORE = click.option(
    "--store",
    "place",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SPARK_BENCH_HISTORY",
    show_envvar=True,
    help="Default: spark-bench/history.sqlite3 in $XDG_DATA_HOME or ~/.local/share.",
)
_FILTERS: tuple[Decorator, ...] = (
    click.option("--model", metavar="PART", default="", help="Part of the model's name."),
    click.option("--profile", metavar="NAME", default="", help="The profile, as it is called."),
    click.option("--load", metavar="PART", default="", help="Part of the load: 128/128, c4, r2."),
    click.option("--url", metavar="PART", default="", help="Part of the server's URL."),
    click.option("--since", metavar="TIME", help="7d (also m, h, w), or 2026-11-23[T14:30]."),
    click.option("--until", metavar="TIME", help="Before then."),
    click.option("--status", type=click.Choice(["complete", "partial"]), default=None),
    click.option("--verdict", type=click.Choice(["exact", "approximate"]), default=None),
)
FILTER_NAMES = ("model", "profile", "load", "url", "since", "until", "status", "verdict")


def filtered(function: Callable[..., Any]) -> Any:
    """A command that takes filters: their words come in as `typed`, see `filters`."""
    return reduce(lambda made, flag: flag(made), reversed(_FILTERS), function)


def filters(typed: dict[str, Any]) -> Filters:
    """The filters that were typed; BadInput for a time that is none."""
    from datetime import datetime

    from spark_bench.history.filters import Filters, moment

    words = {name: typed[name] or "" for name in FILTER_NAMES}
    now = datetime.now().astimezone()
    for name in ("since", "until"):
        if words[name]:
            words[name] = moment(words[name], f"--{name}", now)
    return Filters(**words)


def opened(place: Path | None) -> Store:
    """The store."""
    from spark_bench.history.place import default_store
    from spark_bench.history.store import Store

    return Store(place or default_store())

"""The table of profiles."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table

from spark_bench.load.profile import Profile


def table(profiles: Iterable[Profile]) -> Table:
    """A row each, as `run` takes them."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("profile", no_wrap=True)
    for name in ("-n", "-i", "-o", "-r", "-c"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("use")
    for profile in profiles:
        made.add_row(*_cells(profile))
    return made


def _cells(profile: Profile) -> tuple[str, ...]:
    return (
        profile.name,
        str(profile.num_prompts),
        str(profile.input_len),
        str(profile.output_len),
        "inf" if profile.request_rate is None else f"{profile.request_rate:g}",
        "none" if profile.concurrency is None else str(profile.concurrency),
        profile.use,
    )

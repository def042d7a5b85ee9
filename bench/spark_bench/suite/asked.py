"""What `spark-bench all` was asked to do, checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spark_bench.options import FailureLimit
from spark_bench.secret import Secret

if TYPE_CHECKING:
    from spark_bench.load.profiles import Profile

Settings = dict[str, Any]


class Asked(Struct, frozen=True, kw_only=True):
    """Every field is valid by itself. Times are seconds.

    models: names as typed; empty: the whole catalogue
    nodes: "" as the inventory says, "one" the head alone, "all" every node
    skip_token: leave gated models out; None: where there is no token; False: try them all
    variants: settings besides the model, one converged after the other; never empty
    profile: with the overrides in it
    overrides: what was given beside the profile's name
    resume: the folder of a run to go on with
    folder: where the files go
    typed: the options that decide what is measured, as typed
    """

    project: Path
    inventory: Path
    models: tuple[str, ...] = ()
    nodes: str = ""
    skip_token: bool | None = None
    variants: tuple[Settings, ...] = ({},)
    profile: Profile
    profiles: tuple[Path, ...] = ()
    overrides: dict[str, Any] = {}
    repeat: int = 1
    keep_going: bool = True
    restore: bool = True
    startup_timeout: float = 900.0
    bench_timeout: float = 600.0
    max_failures: FailureLimit = FailureLimit()
    api_key: Secret | None = None
    api_key_file: Path | None = None
    resume: Path | None = None
    folder: Path
    typed: dict[str, Any] = {}

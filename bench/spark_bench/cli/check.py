"""From what was typed to RunOptions, before anything is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spark_bench.cli import conflicts
from spark_bench.errors import BadInput
from spark_bench.options import RunOptions, parse_limit
from spark_bench.secret import api_key

if TYPE_CHECKING:
    from spark_bench.load.profiles import Profile
    from spark_bench.load.sweep import Sweep

OVERRIDES = ("num_prompts", "input_len", "output_len", "request_rate", "concurrency")
# With --slo, a sweep ends where fewer requests than this share meet it.
ATTAINMENT = 0.9


def options(typed: Mapping[str, Any], environ: Mapping[str, str]) -> RunOptions:
    """BadInput (exit code 2) for anything that can't be done as typed."""
    given = {name: value for name, value in typed.items() if value not in (None, (), "")}
    conflicts.check(given)
    changes = {name: given.pop(name) for name in OVERRIDES if name in given}
    overridden = tuple(changes)
    if "sharegpt" in given:
        from spark_bench.prompts import sharegpt

        sharegpt.check(given["sharegpt"])
    if "trace" in given:
        changes["num_prompts"] = _requests(given["trace"], changes.get("num_prompts"))
    profile = _profile(given.pop("name"), given.pop("profiles", ()), changes)
    # As the profile has them: no limit is None.
    overrides = {name: getattr(profile, name) for name in overridden}
    _check_load(profile, given)
    key = api_key(given.pop("api_key_file", None), environ)
    given["max_failures"] = parse_limit(given["max_failures"])
    if "url" in given:
        given["url"] = checked_url(given["url"])
    if "output" in given:
        _check_output(given["output"])
    if "ramp" in given:
        from spark_bench.load.ramp import Ramp

        given["ramp"] = Ramp.parse(given["ramp"])
    if "slo" in given:
        from spark_bench.metrics.goodput import parse_slo

        given["slo"] = parse_slo(given["slo"])
    if "sweep" in given:
        given["sweep"] = _sweep(given["sweep"], profile, "slo" in given)
    return RunOptions(profile=profile, overrides=overrides, api_key=key, **given)


def checked_url(url: str) -> str:
    """http(s)://host[:port][/path], without a slash or the API's /v1 at its end."""
    try:
        found = urlsplit(url)
    except ValueError as error:
        raise BadInput(f"--url {url}: {error}: give one like http://spark-1:30000") from None
    try:
        complete = found.scheme in ("http", "https") and found.hostname and found.port != 0
    except ValueError:
        complete = False
    if found.username or found.password:
        raise BadInput(
            f"--url for {found.hostname} holds a user or password, which others see in the "
            "process list: put a key into $SPARK_BENCH_API_KEY or --api-key-file"
        )
    if not complete or found.query or found.fragment:
        raise BadInput(f"--url {url} is not a server's URL: give one like http://spark-1:30000")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _profile(name: str, files: tuple[Path, ...], changes: Mapping[str, Any]) -> Profile:
    from spark_bench.load.profile import NO_LIMIT
    from spark_bench.load.profiles import find

    lifted = {"concurrency": NO_LIMIT["concurrency"]} if changes.get("concurrency") == 0 else {}
    return find(name, files).with_(**{**changes, **lifted})


def _requests(trace: Path, limit: int | None) -> int:
    """How many a trace has, up to the limit: read now, so that a bad one is told at once."""
    from spark_bench.load.trace import read

    return len(read(trace, limit=limit))


def _check_load(profile: Profile, given: Mapping[str, Any]) -> None:
    timed = (
        profile.request_rate is not None
        or given.get("sweep", "").startswith("rate")
        or "ramp" in given
    )
    if "burstiness" in given and not timed:
        raise BadInput(
            f"--burstiness {given['burstiness']:g} shapes arrivals at a rate, and profile "
            f"{profile.name} has none: give one with -r, such as -r 2"
        )
    if "ramp_slots" in given and profile.concurrency is None and "sweep" not in given:
        raise BadInput(
            f"--ramp-slots {given['ramp_slots']:g} opens slots one by one, and profile "
            f"{profile.name} has no limit on requests in flight: give one with -c, such as -c 8"
        )


def _check_output(file: Path) -> None:
    if file.is_dir():
        raise BadInput(f"--output {file} is a folder: give a file in it, such as {file}/run.json")
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise BadInput(f"--output {file} can't be written: {parent} is not a folder")


def _sweep(text: str, profile: Profile, limited: bool) -> Sweep:
    from spark_bench.load.sweep import parse

    most = profile.num_prompts if text.startswith("concurrency") else None
    return parse(text, most=most, attainment=ATTAINMENT if limited else None)

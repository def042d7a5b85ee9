"""Turn what was typed after `spark-bench run` into checked options.

Nothing is contacted before all of it has been checked.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spark_bench import errors, options, secret
from spark_bench.load import profile as profiles
from spark_bench.load.arrivals import Ramp
from spark_bench.load.sweep import parse_sweep
from spark_bench.load.trace import read_trace

OVERRIDES = ("num_prompts", "input_len", "output_len", "request_rate", "concurrency")
# llama-benchy's number of runs.
DEPTH_REPEATS = 3
# With --slo, a sweep ends once less than this share of requests meets it.
ATTAINMENT = 0.9


def check_options(
    typed: Mapping[str, Any], environ: Mapping[str, str], chosen: Collection[str] = ()
) -> options.RunOptions:
    """The options of a run. Raises BadInput (exit code 2) if they can't be carried out as typed.

    chosen: names of the options that were typed, even if with their defaults
    """
    given = {name: value for name, value in typed.items() if value not in (None, (), "")}
    for conflict in find_conflicts(given):
        raise errors.BadInput(conflict)
    published = _check_published(given, chosen) if "as_published" in given else None
    if "depths" in given:
        _check_depths(given, chosen)
    profile, overrides = _take_profile(given)
    key = secret.api_key(given.pop("api_key_file", None), environ)
    for name, parse in PARSERS.items():
        if name in given:
            given[name] = parse(given[name])
    if "sweep" in given:
        most = profile.num_prompts if given["sweep"].startswith("concurrency") else None
        attainment = ATTAINMENT if "slo" in given else None
        given["sweep"] = parse_sweep(given["sweep"], most=most, attainment=attainment)
    if "slo" in given:
        from spark_bench.metrics.goodput import parse_slo

        given["slo"] = parse_slo(given["slo"])
    given |= {"profile": profile, "overrides": overrides, "api_key": key}
    groups = {
        group: kind(**{name: given[name] for name in kind.__struct_fields__ if name in given})
        for group, kind in GROUPS.items()
    }
    return options.RunOptions(**groups, published=published)


def _take_profile(given: dict[str, Any]) -> tuple[profiles.Profile, dict[str, Any]]:
    """Take the options out of `given` that choose and change the profile.

    Returns it, and what was changed, with the values that the profile has, where "no limit" is
    None. Raises BadInput for files that can't be used, and options that don't go with the profile.
    """
    changes = {name: given.pop(name) for name in OVERRIDES if name in given}
    overridden = list(changes)
    if "sharegpt" in given:
        from spark_bench.prompts import sharegpt

        sharegpt.check_sharegpt(given["sharegpt"])
    if "trace" in given:
        # Read now, so that an invalid trace is refused at once.
        entries = read_trace(given["trace"], limit=changes.get("num_prompts"))
        changes["num_prompts"] = len(entries)
    name, files = given.pop("name"), given.pop("profiles", ())
    if "depths" in given:
        # A batch: as many prompts as are in flight.
        usual = profiles.find_profile(name, files)
        _check_load(usual, given)
        batch = changes.get("concurrency") or usual.concurrency or 1
        changes |= {"num_prompts": batch, "concurrency": batch, "request_rate": math.inf}
    profile = change_profile(name, files, changes)
    _check_load(profile, given)
    return profile, {name: getattr(profile, name) for name in overridden}


def _check_published(given: dict[str, Any], chosen: Collection[str]) -> options.PublishedOptions:
    """The options of --as-published. What else its loads have is set in `given`.

    Raises BadInput for an option that would change the load, and for streams that are no numbers.
    """
    if "name" in chosen:
        raise errors.BadInput(
            f"profile {given['name']} doesn't go with --as-published: the published figure says "
            "what is sent; leave one of them out"
        )
    for name, value in AS_PUBLISHED.items():
        if name in chosen and given.get(name) != value:
            flag = {"ignore_eos": "--no-ignore-eos"}.get(name, f"{flag_name(name)} {given[name]}")
            raise errors.BadInput(
                f"{flag} doesn't go with --as-published: the published figure says what is sent; "
                "leave one of them out"
            )
    given |= AS_PUBLISHED
    text = given["as_published"]
    words = [] if text == EVERY_LOAD else text.split(",")
    if not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise errors.BadInput(
            f"--as-published {text}: give {EVERY_LOAD}, or numbers of requests in flight, such as "
            "16 or 1,16"
        )
    return options.PublishedOptions(
        streams=tuple(sorted({int(word) for word in words})),
        weights=given.get("weights", ""),
        variant=given.get("variant", ""),
        nodes=given.get("nodes"),
        only_plan=given.get("dry_run", False),
    )


def _check_depths(given: dict[str, Any], chosen: Collection[str]) -> None:
    """Parse --depth in `given`, and set what its loads have otherwise than others.

    Raises BadInput for depths that are no ascending whole numbers.
    """
    words = given["depths"].split(",")
    if not all(re.fullmatch("[0-9]{1,8}", word) for word in words):
        raise errors.BadInput(
            f"--depth {given['depths']}: give numbers of tokens, such as 0,4096,16384"
        )
    given["depths"] = tuple(sorted({int(word) for word in words}))
    if given.get("cache") == "hit":
        raise errors.BadInput(
            "--cache hit doesn't go with --depth: it makes all prompts alike; to have the contexts "
            "alone in the prefix cache, give --depth-cached"
        )
    if "name" not in chosen:
        given["name"] = "depth"
    if "repeat" not in chosen:
        given["repeat"] = DEPTH_REPEATS


def change_profile(
    name: str, files: Sequence[Path], changes: Mapping[str, Any]
) -> profiles.Profile:
    """The profile of this name with `changes` applied. A concurrency of 0 means no limit."""
    lifted = (
        {"concurrency": profiles.NO_LIMIT["concurrency"]} if changes.get("concurrency") == 0 else {}
    )
    return profiles.find_profile(name, files).with_(**{**changes, **lifted})


def check_url(url: str) -> str:
    """The URL as http(s)://host[:port][/path], with a final slash or /v1 removed.

    Raises BadInput for anything else.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise errors.BadInput(f"--url {url}: {error}: give one like http://spark-1:30000") from None
    try:
        complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        complete = False
    if parts.username or parts.password:
        raise errors.BadInput(
            f"--url for {parts.hostname} holds a user or password, which others see in the "
            "process list: put a key into $SPARK_BENCH_API_KEY or --api-key-file"
        )
    if not complete or parts.query or parts.fragment:
        raise errors.BadInput(
            f"--url {url} is not a server's URL: give one like http://spark-1:30000"
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _check_load(profile: profiles.Profile, given: Mapping[str, Any]) -> None:
    for name in ("trace", "sharegpt", "depths", "cache"):
        if profile.long_every and given.get(name) not in (None, "miss"):
            value = " hit" if name == "cache" else ""
            raise errors.BadInput(
                f"{flag_name(name)}{value} doesn't go with profile {profile.name}, which mixes two "
                "kinds of prompts: give another profile, or leave the option out"
            )
    timed = (
        profile.request_rate is not None
        or given.get("sweep", "").startswith("rate")
        or "ramp" in given
    )
    if "burstiness" in given and not timed:
        raise errors.BadInput(
            f"--burstiness {given['burstiness']:g} shapes arrivals at a rate, and profile "
            f"{profile.name} has none: give one with -r, such as -r 2"
        )
    if "ramp_slots" in given and profile.concurrency is None and "sweep" not in given:
        raise errors.BadInput(
            f"--ramp-slots {given['ramp_slots']:g} opens slots one by one, and profile "
            f"{profile.name} has no limit on requests in flight: give one with -c, such as -c 8"
        )


def check_output(file: Path) -> Path:
    """The same path. Raises BadInput if no file can be written there."""
    if file.is_dir():
        raise errors.BadInput(
            f"--output {file} is a folder: give a file in it, such as {file}/run.json"
        )
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise errors.BadInput(f"--output {file} can't be written: {parent} is not a folder")
    return file


# Parsers of options that need no other option, in the order in which they are applied.
PARSERS: dict[str, Callable[[Any], Any]] = {
    "max_failures": options.parse_failure_limit,
    "url": check_url,
    "output": check_output,
    "ramp": Ramp.parse,
}
# The class of each group of RunOptions.
GROUPS: dict[str, Any] = {
    "load": options.LoadOptions,
    "prompts": options.PromptOptions,
    "server": options.ServerOptions,
    "measure": options.MeasureOptions,
    "output": options.OutputOptions,
}


# ---- which options go together

# (option, what it excludes, why).
EXCLUDES = (
    (
        "trace",
        (
            "request_rate burstiness ramp ramp_slots input_len output_len sharegpt sweep turns "
            "think_time shared_prefix prefix_groups"
        ),
        "the trace says when each request is sent and how long it is",
    ),
    (
        "sharegpt",
        "input_len turns shared_prefix prefix_groups",
        "the file's conversations are the prompts",
    ),
    ("ramp", "request_rate sweep", "it says what the rate is"),
    (
        "depths",
        (
            "num_prompts request_rate burstiness ramp ramp_slots duration sweep trace sharegpt "
            "turns think_time shared_prefix prefix_groups as_published"
        ),
        "each repeat sends -c prompts at once, after contexts of that depth",
    ),
    (
        "as_published",
        (
            "num_prompts input_len output_len request_rate concurrency profiles burstiness ramp "
            "ramp_slots duration sweep trace trace_speed sharegpt turns think_time shared_prefix "
            "prefix_groups extra_body"
        ),
        "the published figure says what is sent",
    ),
)
# (option, what it needs, why).
NEEDS = (
    ("trace_speed", "trace", "it is a trace that has a speed"),
    ("think_time", "turns", "it lies between two turns"),
    ("prefix_groups", "shared_prefix", "they are groups of prompts with one prefix"),
    ("depth_cached", "depths", "it is the contexts at a depth that are cached"),
    ("weights", "as_published", "published figures are of a model"),
    ("variant", "as_published", "published figures are of a variant"),
    ("nodes", "as_published", "published figures are of a number of nodes"),
    ("dry_run", "as_published", "it prints which published loads would be sent"),
)
# The value of --as-published that means all loads.
EVERY_LOAD = "all"
# What sglang.bench_serving sends: the only way of sending that published figures state.
AS_PUBLISHED = {"endpoint": "completions", "cache": "miss", "ignore_eos": True, "temperature": 0.0}
# By what a sweep varies: the option that can't be given as well.
SWEPT = {"concurrency": "concurrency", "rate": "request_rate"}


def find_conflicts(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with options that don't go together. given: only those that were set"""
    for option, excluded, why in EXCLUDES:
        for other in excluded.split():
            if option in given and other in given:
                names = f"{flag_name(other)} doesn't go with {flag_name(option)}"
                yield f"{names}: {why}; leave one of them out"
    for option, needed, why in NEEDS:
        if option in given and needed not in given:
            yield f"{flag_name(option)} needs {flag_name(needed)}: {why}"
    for option in ("trace", "sharegpt"):
        if option in given and given.get("cache") == "hit":
            yield (
                f"--cache hit doesn't go with {flag_name(option)}: it is for prompts of our own, "
                "and makes them all alike; leave one of them out"
            )
    body = given.get("extra_body", {})
    for fields in (body, body.get("sampling_params")):
        if isinstance(fields, dict) and fields.get("n", 1) not in (None, 1):
            yield (
                f"--extra-body has n = {fields['n']}: a request is measured by the tokens of one "
                "answer, and several would come mixed; leave n out, and ask for more with "
                "--concurrency"
            )
    over = given.get("sweep", "").partition("=")[0]
    if (swept := SWEPT.get(over, "")) in given:
        yield (
            f"{flag_name(swept)} doesn't go with --sweep {over}, which sets it: to have it as a "
            f"point, give --sweep {over}={given[swept]:g} or a list of points"
        )
    if over == "concurrency" and "burstiness" in given:
        yield "--burstiness doesn't go with --sweep concurrency: it shapes arrivals at a rate"


def flag_name(name: str) -> str:
    """An option as it is typed, from its parameter's name."""
    return "--depth" if name == "depths" else "--" + name.replace("_", "-")

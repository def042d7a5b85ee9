"""Which options go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spark_bench.errors import BadInput

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
)
# (option, what it needs, why).
NEEDS = (
    ("trace_speed", "trace", "it is a trace that has a speed"),
    ("think_time", "turns", "it lies between two turns"),
    ("prefix_groups", "shared_prefix", "they are groups of prompts with one prefix"),
)
# What a sweep varies can't be given as well.
SWEPT = {"concurrency": "concurrency", "rate": "request_rate"}


def check(given: Mapping[str, Any]) -> None:
    """BadInput for the first two options that don't go together; `given` has only what was set."""
    for complaint in _complaints(given):
        raise BadInput(complaint)


def _complaints(given: Mapping[str, Any]) -> Iterator[str]:
    for option, excluded, why in EXCLUDES:
        for other in excluded.split():
            if option in given and other in given:
                yield f"{flag(other)} doesn't go with {flag(option)}: {why}; leave one of them out"
    for option, needed, why in NEEDS:
        if option in given and needed not in given:
            yield f"{flag(option)} needs {flag(needed)}: {why}"
    for option in ("trace", "sharegpt"):
        if option in given and given.get("cache") == "hit":
            yield (
                f"--cache hit doesn't go with {flag(option)}: it is for prompts of our own, and "
                "makes them all alike; leave one of them out"
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
            f"{flag(swept)} doesn't go with --sweep {over}, which sets it: to have it as a point, "
            f"give --sweep {over}={given[swept]:g} or a list of points"
        )
    if over == "concurrency" and "burstiness" in given:
        yield "--burstiness doesn't go with --sweep concurrency: it shapes arrivals at a rate"


def flag(name: str) -> str:
    """A parameter's name as it is typed."""
    return "--" + name.replace("_", "-")

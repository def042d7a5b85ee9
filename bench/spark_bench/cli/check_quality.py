"""Turn what was typed after `spark-bench quality` into checked options.

Nothing is contacted before all of it has been checked.
"""

from collections.abc import Collection, Mapping
from typing import Any

from spark_bench import errors, options, secret
from spark_bench.cli.check import check_output, check_url, flag_name
from spark_bench.formats import did_you_mean
from spark_bench.results.codec import read_quality
from spark_bench.results.redact import HIDDEN, clean_body

TASKS = ("arith",)
DEFAULT_TASKS = ("arith",)
# What a resumed result has decided already.
DECIDED = (
    *("tasks", "limit", "seed", "model", "endpoint", "thinking", "max_tokens", "temperature"),
    *("output", "answers"),
)


def check_quality_options(
    typed: Mapping[str, Any], environ: Mapping[str, str], chosen: Collection[str]
) -> options.QualityOptions:
    """The options of `spark-bench quality`. Raises BadInput if they can't be carried out as typed.

    chosen: names of the options that were typed, even if with their defaults
    """
    given = {name: value for name, value in typed.items() if value not in (None, (), "")}
    if "url" in given:
        given["url"] = check_url(given["url"])
    if "output" in given:
        check_output(given["output"])
    given["api_key"] = secret.api_key(given.pop("api_key_file", None), environ)
    if "resume" in given:
        given |= _resumed(given, chosen)
    for word in given.get("tasks", ()):
        if word not in TASKS and "resume" not in given:
            hint = did_you_mean(word, TASKS, most=1)
            raise errors.BadInput(f"task {word!r} is not one of {', '.join(TASKS)}{hint}")
    given["tasks"] = tuple(dict.fromkeys(given.get("tasks", DEFAULT_TASKS)))
    parts: dict[str, Any] = {"server": options.ServerOptions, "output": options.OutputOptions}
    groups = {
        group: kind(**{name: given[name] for name in kind.__struct_fields__ if name in given})
        for group, kind in parts.items()
    }
    own = {name: given[name] for name in options.QualityOptions.__struct_fields__ if name in given}
    return options.QualityOptions(**own | groups)


def _resumed(given: Mapping[str, Any], chosen: Collection[str]) -> dict[str, Any]:
    """The options that a result was begun with. Raises BadInput if others were typed."""
    path = given["resume"]
    for name in DECIDED:
        if name in chosen:
            flag = "TASK" if name == "tasks" else flag_name(name)
            raise errors.BadInput(
                f"{flag} doesn't go with --resume: {path} says what it is; leave one of them out"
            )
    begun = read_quality(path)
    config, protocol = begun.config, begun.config.protocol
    extra = given.get("extra_body", protocol.extra_body)
    if clean_body(extra) != protocol.extra_body:
        raise errors.BadInput(
            f"--resume {path}: its requests had --extra-body {protocol.extra_body}, not "
            f"{clean_body(extra)}: leave the option out, or start again without --resume"
        )
    if "extra_body" not in given and HIDDEN in str(extra):
        raise errors.BadInput(
            f"--resume {path}: its --extra-body has a secret, which a result does not keep: give "
            "--extra-body again"
        )
    decided: dict[str, Any] = {
        "resume": (path, begun),
        "tasks": (config.task,),
        "seed": config.items.seed or 0,
        "lengths": config.items.lengths,
        "model": config.model,
        "endpoint": protocol.endpoint,
        "thinking": protocol.thinking,
        "max_tokens": protocol.max_tokens,
        "extra_body": extra,
        "answers": config.answers_kept,
    }
    if config.items.limit:
        decided["limit"] = config.items.limit
    if protocol.temperature is not None:
        decided["temperature"] = protocol.temperature
    if "url" not in given and "project" not in chosen and "inventory" not in chosen:
        decided["url"] = config.url
    return decided

"""Turn what was typed after `spark-bench quality` into checked options.

Nothing is contacted before all of it has been checked.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from spark_bench import errors, options, secret
from spark_bench.cli.check import check_output, check_url, flag_name
from spark_bench.formats import did_you_mean
from spark_bench.quality.data_file import check_data
from spark_bench.quality.harness import HARNESS_TASKS, NOT_OFFERED, data_needed
from spark_bench.quality.items import read_items
from spark_bench.results.codec import read_quality
from spark_bench.results.quality_schema import QualityResult
from spark_bench.results.redact import HIDDEN, clean_body

TASKS = ("arith", "tools", "needle", *HARNESS_TASKS)
DEFAULT_TASKS = ("arith", "tools")
# Of the texts of `needle`, in tokens.
SHORTEST_LENGTH, LONGEST_LENGTH = 1024, 8 * 1024 * 1024
# Where `make sgl-eval` puts it, in the project.
HARNESS_PYTHON = Path(".venv-sgl-eval", "bin", "python")
# What a result decides whose items are sent again, and one that is resumed.
DECIDED = ("tasks", "limit", "seed", "endpoint", "thinking", "max_tokens", "temperature", "lengths")
RESUMED = (*DECIDED, "model", "output", "answers")


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
    elif "against" in given:
        given |= _repeated(given, chosen)
    else:
        given["tasks"] = _check_tasks(given)
    if "against" in given:
        given["against"] = (given["against"], read_quality(given["against"]))
    if "data" in given:
        check_data(given["data"], given.get("data_sha256", ""))
    elif "data_sha256" in given:
        raise errors.BadInput("--data-sha256 needs --data: it is that file's hash")
    given["harness"] = given.get("harness") or given["project"] / HARNESS_PYTHON
    if "lengths" in given:
        given["lengths"] = parse_lengths(given["lengths"])
    parts: dict[str, Any] = {"server": options.ServerOptions, "output": options.OutputOptions}
    groups = {
        group: kind(**{name: given[name] for name in kind.__struct_fields__ if name in given})
        for group, kind in parts.items()
    }
    own = {name: given[name] for name in options.QualityOptions.__struct_fields__ if name in given}
    return options.QualityOptions(**own | groups)


def _check_tasks(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The tasks that were typed, each once. Raises BadInput for what they can't be done with."""
    words = given.get("tasks", () if "items" in given else DEFAULT_TASKS)
    for word in words:
        if why := NOT_OFFERED.get(word):
            raise errors.BadInput(f"task {word!r} can't be run: {why}")
        if word not in TASKS:
            hint = did_you_mean(word, TASKS, most=1)
            raise errors.BadInput(
                f"task {word!r} is not one of {', '.join(TASKS)}{hint}; for items of your own, "
                "give --items FILE"
            )
    if "tools" in words and given.get("endpoint") == "completions":
        raise errors.BadInput(
            "tools doesn't go with --endpoint completions: only chat requests have tools; leave "
            "one of them out"
        )
    if "lengths" in given and "needle" not in words:
        raise errors.BadInput("--lengths needs the task needle: it is its texts that have lengths")
    _check_harness(given, [word for word in words if word in HARNESS_TASKS])
    if "items" in given:
        read_items(given["items"])  # what is wrong with it is reported now
        words = (*words, "items")
    return tuple(dict.fromkeys(words))


def _check_harness(given: Mapping[str, Any], tasks: Sequence[str]) -> None:
    """Raise BadInput for options that the tasks of SGLang's harness don't have."""
    for name in ("data", "data_sha256", "harness"):
        if name in given and not tasks:
            raise errors.BadInput(
                f"{flag_name(name)} needs one of the tasks {', '.join(HARNESS_TASKS)}"
            )
    if "data" in given and len(tasks) > 1:
        raise errors.BadInput(
            f"--data {given['data']}: it has the problems of one task, not of {' and '.join(tasks)}"
        )
    for name in ("extra_body", "endpoint"):
        if tasks and given.get(name) not in (None, "chat"):
            raise errors.BadInput(
                f"{flag_name(name)} doesn't go with {tasks[0]}: sgl-eval builds its requests; "
                "leave one of them out"
            )
    for task in tasks:
        if not HARNESS_TASKS[task] and "data" not in given:
            raise errors.BadInput(data_needed(task))


def parse_lengths(text: str) -> tuple[int, ...]:
    """Parse `4k,32k` or `4096,32768`, in tokens. Raises BadInput for anything else.

    >>> parse_lengths("4k,10000")
    (4096, 10000)
    """
    lengths = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(k?)\s*", word)
        length = int(match[1]) * (1024 if match[2] else 1) if match else 0
        if not SHORTEST_LENGTH <= length <= LONGEST_LENGTH:
            raise errors.BadInput(
                f"--lengths {text}: {word!r} is not a number of tokens from {SHORTEST_LENGTH} to "
                f"{LONGEST_LENGTH}: give some such as 4k,32k"
            )
        lengths.append(length)
    return tuple(dict.fromkeys(lengths))


def _resumed(given: Mapping[str, Any], chosen: Collection[str]) -> dict[str, Any]:
    """The options that a result was begun with. Raises BadInput if others were typed."""
    path = given["resume"]
    begun, decided = _options_of("resume", given, chosen, RESUMED)
    if begun.against and "against" not in given:
        raise errors.BadInput(
            f"--resume {path}: it is set against {begun.against.file}: give --against again"
        )
    decided |= {
        "resume": (path, begun),
        "model": begun.config.model,
        "answers": begun.config.answers_kept,
    }
    if "url" not in given and "project" not in chosen and "inventory" not in chosen:
        decided["url"] = begun.config.url
    return decided


def _repeated(given: Mapping[str, Any], chosen: Collection[str]) -> dict[str, Any]:
    """The options with which a result's items are sent again. Raises BadInput if others were
    typed, or if it has no answers."""
    before, decided = _options_of("against", given, chosen, DECIDED)
    if not before.config.answers_kept:
        raise errors.BadInput(
            f"--against {given['against']}: it has no answers (--no-answers), so there is nothing "
            "to set new ones beside: measure it again with its answers"
        )
    return decided


def _options_of(
    option: str, given: Mapping[str, Any], chosen: Collection[str], decided: Collection[str]
) -> tuple[QualityResult, dict[str, Any]]:
    """A result, and the options that send its items in the same way.

    Raises BadInput if any option of `decided` was typed.
    """
    path = given[option]
    for name in decided:
        if name in chosen:
            flag = "TASK" if name == "tasks" else flag_name(name)
            raise errors.BadInput(
                f"{flag} doesn't go with --{option}: {path} says what it is; leave one of them out"
            )
    before = read_quality(path)
    config, protocol = before.config, before.config.protocol
    _check_given_again(f"--{option} {path}", before, given)
    same: dict[str, Any] = {
        "tasks": (config.task,),
        "seed": config.items.seed or 0,
        "endpoint": protocol.endpoint,
        "thinking": protocol.thinking,
        "max_tokens": protocol.max_tokens,
        "extra_body": given.get("extra_body", protocol.extra_body),
    }
    if config.items.lengths:
        same["lengths"] = ",".join(map(str, config.items.lengths))
    if config.items.limit:
        same["limit"] = config.items.limit
    if protocol.temperature is not None:
        same["temperature"] = protocol.temperature
    return before, same


def _check_given_again(which: str, before: QualityResult, given: Mapping[str, Any]) -> None:
    """Raise BadInput unless what a result does not keep was typed again; which: the result, as
    typed"""
    config, protocol = before.config, before.config.protocol
    extra = given.get("extra_body", protocol.extra_body)
    if clean_body(extra) != protocol.extra_body:
        raise errors.BadInput(
            f"{which}: its requests had --extra-body {protocol.extra_body}, not "
            f"{clean_body(extra)}: leave the option out, or start again without "
            f"{which.partition(' ')[0]}"
        )
    if "extra_body" not in given and HIDDEN in str(extra):
        raise errors.BadInput(
            f"{which}: its --extra-body has a secret, which a result does not keep: give "
            "--extra-body again"
        )
    if config.task == "items" and "items" not in given:
        raise errors.BadInput(
            f"{which}: its items are those of {config.items.source}, which a result does not keep: "
            "give --items again"
        )
    if HARNESS_TASKS.get(config.task) is False and "data" not in given:
        raise errors.BadInput(f"{which}: give --data again, which a result does not keep")

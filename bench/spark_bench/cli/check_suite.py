"""Turn what was typed after `spark-bench all` into checked options, or go on with a suite's own.

Nothing is contacted before all of it has been checked.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from spark_bench import errors, formats, options, secret
from spark_bench.cli.check import OVERRIDES, change_profile, flag_name
from spark_bench.load import profile as profiles
from spark_bench.results.suite_results import SuiteQuality
from spark_bench.suite import job, plan, variants

# Options that determine the results, and so are stored for a resume.
RESUMED = (
    *("models", "single_node", "multi_node", "skip_token", "vary", "matrix"),
    *("project", "inventory", "profile", *OVERRIDES, "profiles", "repeat"),
    *("quality", "quality_limit", "quality_thinking", "quality_loss"),
)
FORMATS = ("csv", "as_json", "markdown")


def check_suite_options(
    typed: dict[str, Any], given: set[str], environ: Mapping[str, str]
) -> plan.SuiteOptions:
    """The options of a suite. Raises BadInput if they can't be carried out as typed.

    given: names of the options that were typed
    """
    _refuse_conflicts(typed)
    stored = {name: _to_json(typed[name]) for name in RESUMED}
    if typed["resume"]:
        stored = _merge_resumed(typed["resume"], stored, given)
    overrides = {name: stored[name] for name in OVERRIDES if stored[name] is not None}
    profile = change_profile(stored["profile"], [*map(Path, stored["profiles"])], overrides)
    models = tuple(word.strip() for word in (stored["models"] or "").split(",") if word.strip())
    if stored["models"] is not None and not models:
        raise errors.BadInput(
            "--models: names no model: give numbers, aliases or ids, such as 1,3,qwen72b"
        )
    default_folder = Path("benchmark_results", f"all_models_{datetime.now():%Y%m%d_%H%M%S}")
    return plan.SuiteOptions(
        project=Path(stored["project"]),
        inventory=Path(stored["inventory"]),
        models=models,
        nodes="one" if stored["single_node"] else "all" if stored["multi_node"] else "",
        skip_token=stored["skip_token"],
        variants=variants.parse_variants(
            stored["vary"], Path(stored["matrix"]) if stored["matrix"] else None
        ),
        profile=profile,
        profiles=tuple(map(Path, stored["profiles"])),
        overrides={name: getattr(profile, name) for name in overrides},
        repeat=stored["repeat"],
        keep_going=typed["keep_going"],
        restore=typed["restore"],
        startup_timeout=typed["startup_timeout"],
        bench_timeout=typed["bench_timeout"],
        quality=_check_quality(stored),
        quality_timeout=typed["quality_timeout"],
        max_failures=options.parse_failure_limit(typed["max_failures"]),
        api_key=secret.api_key(typed["api_key_file"], environ),
        api_key_file=typed["api_key_file"],
        resume=typed["resume"],
        folder=typed["resume"] or typed["output_dir"] or default_folder,
        typed=stored,
    )


def _check_quality(stored: Mapping[str, Any]) -> SuiteQuality | None:
    """What to score; None: nothing. Raises BadInput for an unknown task."""
    from spark_bench.cli.check_quality import TASKS

    if stored["quality"] is None:
        return None
    words = [word.strip() for word in stored["quality"].split(",")]
    for word in words:
        if word not in TASKS:
            hint = formats.did_you_mean(word, TASKS, most=1)
            raise errors.BadInput(f"--quality {word}: is not one of {', '.join(TASKS)}{hint}")
    return SuiteQuality(
        tasks=tuple(dict.fromkeys(words)),
        limit=stored["quality_limit"],
        thinking=stored["quality_thinking"],
        loss=stored["quality_loss"],
    )


def _refuse_conflicts(typed: Mapping[str, Any]) -> None:
    if typed["quality_limit"] and not typed["quality"] and not typed["resume"]:
        raise errors.BadInput("--quality-limit needs --quality TASK,..., such as --quality arith")
    for one, other, why in (
        ("single_node", "multi_node", "one is the head alone, the other all nodes"),
        ("resume", "output_dir", "it goes on in its own folder"),
    ):
        if typed[one] and typed[other]:
            raise errors.BadInput(
                f"{flag_name(other)} doesn't go with {flag_name(one)}: {why}; leave one out"
            )
    if len(chosen := [name for name in FORMATS if typed[name]]) > 1:
        names = " and ".join(flag_name(name.removeprefix("as_")) for name in chosen)
        raise errors.BadInput(f"{names} would all go to stdout: give one, the files hold the rest")


def _merge_resumed(folder: Path, typed: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """The options that the folder's suite was begun with.

    Raises BadInput if one of them was typed with another value now.
    """
    stored = {name: job.read_job(folder).typed.get(name, typed[name]) for name in typed}
    changed = [
        f"{flag_name(name)}: {_join_words(stored[name])} -> {_join_words(typed[name])}"
        for name in typed
        if name in given and typed[name] != stored[name]
    ]
    if changed:
        raise errors.BadInput(
            f"--resume {folder}: the job has changed, and its results would not fit together:\n  "
            + "\n  ".join(changed)
            + "\nleave these options out, or start again without --resume"
        )
    return stored


def _join_words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    return "(none)" if value in (None, "") else str(value)


def _to_json(value: Any) -> Any:
    """A typed value as job.json has it."""
    if isinstance(value, tuple):
        return [_to_json(each) for each in value]
    if isinstance(value, float) and value == float("inf"):
        return profiles.NO_LIMIT["request_rate"]
    return str(value) if isinstance(value, Path) else value

"""`spark-bench all`: from what was typed to a run, and from its results to an exit code."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click

from spark_bench.cli.check import OVERRIDES
from spark_bench.cli.commands import INTERRUPTED, say
from spark_bench.cli.conflicts import flag
from spark_bench.errors import BadInput
from spark_bench.load.profile import NO_LIMIT
from spark_bench.load.profiles import find
from spark_bench.options import parse_limit
from spark_bench.printable import json_text, printable
from spark_bench.results.suite_results import SuiteResults, encode_results
from spark_bench.secret import api_key
from spark_bench.suite.job import describe_job, finished_names, read_job
from spark_bench.suite.plan import SuiteOptions, plan_suite
from spark_bench.suite.rows import rows_csv
from spark_bench.suite.suite_tables import render_markdown, render_summary
from spark_bench.suite.variants import parse_variants

# What decides the results, and so is kept for a resume.
KEPT = (
    *("models", "single_node", "multi_node", "skip_token", "vary", "matrix"),
    *("project", "inventory", "profile", *OVERRIDES, "profiles", "repeat"),
)
FORMATS = ("csv", "as_json", "markdown")
FAILED = 1


def checked(typed: dict[str, Any], given: set[str], environ: Mapping[str, str]) -> SuiteOptions:
    """BadInput for anything that can't be done as typed. given: what was not left out."""
    _check(typed)
    kept = {name: _plain(typed[name]) for name in KEPT}
    if typed["resume"]:
        kept = _resumed(typed["resume"], kept, given)
    profile, changes = _profile(kept)
    return SuiteOptions(
        project=Path(kept["project"]),
        inventory=Path(kept["inventory"]),
        models=_models(kept["models"]),
        nodes="one" if kept["single_node"] else "all" if kept["multi_node"] else "",
        skip_token=kept["skip_token"],
        variants=parse_variants(kept["vary"], Path(kept["matrix"]) if kept["matrix"] else None),
        profile=profile,
        profiles=tuple(map(Path, kept["profiles"])),
        overrides=changes,
        repeat=kept["repeat"],
        keep_going=typed["keep_going"],
        restore=typed["restore"],
        startup_timeout=typed["startup_timeout"],
        bench_timeout=typed["bench_timeout"],
        max_failures=parse_limit(typed["max_failures"]),
        api_key=api_key(typed["api_key_file"], environ),
        api_key_file=typed["api_key_file"],
        resume=typed["resume"],
        folder=typed["resume"] or typed["output_dir"] or _folder(datetime.now()),
        typed=kept,
    )


def carry_out(options: SuiteOptions, typed: Mapping[str, Any]) -> int:
    """Plan, ask, run, print; the exit code."""
    from spark_bench.suite.child import SuiteProgress
    from spark_bench.suite.preview import describe_plan, earlier_estimates
    from spark_bench.suite.runner import NOT_RESTORED, begin_suite, run_suite

    cases = plan_suite(options)
    load = describe_job(options, cases).load
    earlier = earlier_estimates(options, load)
    plan = describe_plan(cases, options, load, earlier, finished_names(options, cases))
    click.echo(printable(plan, lines=True), err=not typed["dry_run"])
    if typed["dry_run"]:
        return 0
    _confirm(typed["yes"])
    with _signals(), begin_suite(options, cases, SuiteProgress(sys.stderr)) as run:
        results, interrupted = run_suite(run)
    _print(results, options.folder, typed)
    if interrupted:
        say(f"to go on: spark-bench all --resume {shlex.quote(str(options.folder))}")
        return INTERRUPTED
    good = all(row.status in ("OK", "SKIPPED") for row in results.results)
    return 0 if good and NOT_RESTORED not in results.restored else FAILED


def _check(typed: Mapping[str, Any]) -> None:
    for one, other, why in (
        ("single_node", "multi_node", "one is the head alone, the other all nodes"),
        ("resume", "output_dir", "it goes on in its own folder"),
    ):
        if typed[one] and typed[other]:
            raise BadInput(f"{flag(other)} doesn't go with {flag(one)}: {why}; leave one out")
    if len(chosen := [name for name in FORMATS if typed[name]]) > 1:
        names = " and ".join(flag(name.removeprefix("as_")) for name in chosen)
        raise BadInput(f"{names} would all go to stdout: give one, the files hold the rest")


def _resumed(folder: Path, typed: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """The options of the folder's run; BadInput where another value was typed now."""
    kept = {name: read_job(folder).typed.get(name, typed[name]) for name in typed}
    changed = [
        f"{flag(name)}: {_words(kept[name])} -> {_words(typed[name])}"
        for name in typed
        if name in given and typed[name] != kept[name]
    ]
    if changed:
        raise BadInput(
            f"--resume {folder}: the job has changed, and its results would not fit together:\n  "
            + "\n  ".join(changed)
            + "\nleave these options out, or begin anew without --resume"
        )
    return kept


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    return "(none)" if value in (None, "") else str(value)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value == float("inf"):
        return NO_LIMIT["request_rate"]
    return str(value) if isinstance(value, Path) else value


def _profile(kept: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """With the overrides in it; and these, as the profile has them."""
    changes = {name: kept[name] for name in OVERRIDES if kept[name] is not None}
    if changes.get("concurrency") == 0:
        changes["concurrency"] = NO_LIMIT["concurrency"]
    profile = find(kept["profile"], [Path(file) for file in kept["profiles"]]).with_(**changes)
    return profile, {name: getattr(profile, name) for name in changes}


def _models(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise BadInput(
            "--models: names no model: give numbers, aliases or ids, such as 1,3,qwen72b"
        )
    return words


def _folder(now: datetime) -> Path:
    return Path("benchmark_results", f"all_models_{now:%Y%m%d_%H%M%S}")


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask whether to go on: give --yes, or --dry-run")
    if not click.confirm("Each model takes the place of the one before. Go on?", err=True):
        raise click.Abort


@contextmanager
def _signals() -> Iterator[None]:
    """TERM, and a terminal that is closed, end it as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(results: SuiteResults, folder: Path, typed: Mapping[str, Any]) -> None:
    """To stdout what was asked for; where the files are to stderr."""
    if typed["csv"]:
        click.echo(rows_csv(results.results), nl=False)
    elif typed["as_json"]:
        click.echo(json_text(encode_results(results)), nl=False)
    elif typed["markdown"]:
        click.echo(render_markdown(results, folder), nl=False)
    else:
        click.echo(render_summary(results), nl=False)
    say(f"written to {folder}")

"""The plan as text: what will be measured, what won't and why, and how long it will take."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from spark_bench.formats import duration
from spark_bench.results.suite_results import SuiteLoad
from spark_bench.suite import job, plan, suite_tables, variants

HEAD = ("#", "Model", "Variant", "Nodes", "TP", "Weights", "Start-up", "Benchmark", "Settings")
# Rules of thumb, not measured: how long an engine takes to start, and an NVMe disk's read speed.
START_SECONDS = 90.0
LOAD_BYTES_PER_SECOND = 1e9
# Over all streams; what users of two Sparks report for gpt-oss-120b with 50 concurrent requests.
TOKENS_PER_SECOND = 75.0


class Estimate(NamedTuple):
    """How long a case takes, in seconds. measured: the times are those of an earlier suite"""

    startup: float
    bench: float
    measured: bool = False

    @property
    def seconds(self) -> float:
        return self.startup + self.bench


def describe_plan(
    cases: Sequence[plan.Case],
    options: plan.SuiteOptions,
    load: SuiteLoad,
    earlier: Mapping[str, Estimate],
    done: Collection[str] = (),
) -> str:
    """The whole plan as text.

    earlier: measured times by the case's name
    done: names of the cases that were measured before a resume
    """
    left = [case for case in cases if not case.skip and case.name not in done]
    estimates = [estimate_case(case, options, earlier) for case in left]
    rows = []
    for number, (case, estimate) in enumerate(zip(left, estimates, strict=True), start=1):
        mark = "" if estimate.measured else "~"
        times = (mark + duration(estimate.startup), mark + duration(estimate.bench))
        settings = " ".join(
            f"{name}={variants.format_setting(v)}" for name, v in case.settings.items()
        )
        spread = (str(case.nodes), str(case.tp), _size(case.weight_bytes))
        settings = settings or "as the inventory has them"
        rows.append([str(number), case.short, case.served_variant, *spread, *times, settings])
    total = sum(estimate.seconds for estimate in estimates)
    measured = sum(estimate.measured for estimate in estimates)
    how = (
        f"{measured} of them from an earlier run's time, the rest estimated"
        if measured
        else "roughly"
    )
    tasks = len(options.quality.tasks) if options.quality else 0
    scoring = tasks * options.quality_timeout
    limit = len(left) * (options.startup_timeout + options.bench_timeout + scoring)
    uncounted = "the downloads and scores" if tasks else "the downloads"
    parts = [
        f"{len(left)} to measure, one after the other; {load}",
        *([f"{options.quality} of each"] if options.quality else ()),
        suite_tables.plain_table(HEAD, rows, left=3),
        *describe_downloads(left),
        f"about {duration(total)} in all, {how}, and {uncounted}; at most {duration(limit)} by "
        "the timeouts, not counting downloads",
    ]
    if done:
        parts.append(f"{len(done)} done already: {', '.join(sorted(done))}")
    if skipped := [f"  {c.short} {c.variant}".rstrip() + f": {c.skip}" for c in cases if c.skip]:
        parts.append("\n".join([f"{len(skipped)} skipped:", *skipped]))
    parts.append(f"files: {options.folder}")
    return "\n\n".join(parts)


def describe_downloads(cases: Sequence[plan.Case]) -> list[str]:
    """What the cases download to nodes that don't have it: weights, drafts and images."""
    sizes = {case.model: case.weight_bytes for case in cases}
    sizes |= {case.draft: case.draft_bytes for case in cases if case.draft}
    unknown = [name for name, size in sizes.items() if size is None]
    images = list(dict.fromkeys(case.image for case in cases if case.image))
    if not images:  # the engine of this machine downloads nothing
        return []
    drafts = [
        f"  draft of {case.short}: {case.draft}, {_size(case.draft_bytes)}"
        for case in cases
        if case.draft
    ]
    total = _size(sum(size or 0 for size in sizes.values()))
    more = f", and {len(unknown)} of unknown size: {', '.join(unknown)}" if unknown else ""
    return [
        "\n".join(
            [
                f"downloads, where the nodes don't have them: {total} of weights and drafts{more}",
                *dict.fromkeys(drafts),
                *(f"  image {image}" for image in images),
            ]
        )
    ]


def _size(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"


def estimate_case(
    case: plan.Case, options: plan.SuiteOptions, earlier: Mapping[str, Estimate]
) -> Estimate:
    """How long a case will take. earlier: times in suites with the same load, by case name"""
    if case.name in earlier:
        return earlier[case.name]
    profile = options.profile
    share = (case.weight_bytes or 0) / max(case.nodes, 1)
    startup = START_SECONDS + share / LOAD_BYTES_PER_SECOND
    arrivals = profile.num_prompts / profile.request_rate if profile.request_rate else 0.0
    bench = max(profile.num_prompts * profile.output_len / TOKENS_PER_SECOND, arrivals)
    return Estimate(
        min(startup, options.startup_timeout), min(bench * options.repeat, options.bench_timeout)
    )


def earlier_estimates(options: plan.SuiteOptions, load: SuiteLoad) -> dict[str, Estimate]:
    """How long each case took in earlier suites with the same load, by name; the newest wins."""
    return {
        row.name: Estimate(row.startup_seconds, row.bench_seconds, True)
        for results in job.earlier_results(options.folder.parent)
        if results.config == load
        for row in results.results
        if row.status == "OK" and row.startup_seconds and row.bench_seconds
    }

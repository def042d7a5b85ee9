"""Deploying one model with the project's own command line: why it failed, what is served now."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from spark_bench import formats, project, secret
from spark_bench.protocol.models import parse_models
from spark_bench.suite import child, job, plan, suite_rows, variants

# Most findings to show; more would repeat the cause.
MOST_FINDINGS = 4
LONGEST = 400  # most characters of a shown line
# Outcomes of a deploy after which the model serves.
SERVES = ("converged", "changed")
# Steps that transfer large files. Each has its own limits (download_stall_timeout, pull_timeout)
# and prints a line of progress every 10 s.
TRANSFERS = ("image", "vocabularies", "weights")
VERSION = 1
# Keys of findings about answers to the deploy's probes begin so; the exception means that they
# could not be sent. See the project's cluster/probes/report.py.
PROBE, UNREAD = "probe-", "probe-unread"
# That the settings have no probes sent.
PROBES_OFF = "probes-off"

# Settings of the project that a rank's listing shows: their names there.
LAUNCH = {
    "tensor_parallel": "tp",
    "pipeline_parallel": "pp",
    **{
        name: name
        for name in (
            *("mem_fraction", "context_length", "reasoning_parser", "tool_call_parser"),
            *("trust_remote_code", "disable_cuda_graph", "enable_dp_attention", "enable_metrics"),
        )
    },
}
# A rank's launch as settings of the project. The rest of a rank's specification (paths, network,
# container) is the inventory's.
RESTORED = (
    *("mem_fraction", "context_length", "dist_timeout", "trust_remote_code", "disable_cuda_graph"),
    *("enable_dp_attention", "enable_metrics", "host", "port"),
)
# The option by which a model's entry names its draft.
DRAFT = "--speculative-draft-model-path"
AskProject = Callable[[Sequence[variants.Settings]], Sequence[plan.Feasibility]]
SECONDS = 30.0
# Largest acceptable list of models, in bytes.
MOST_BYTES = 16 * 1024 * 1024


class DeployFinding(Struct, frozen=True):
    """A problem that a deploy reports. where: the node; "": all nodes"""

    what: str
    level: str = "error"
    key: str = ""
    where: str = ""
    cure: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where and not self.what.startswith(self.where) else ""
        cure = f" -> {self.cure}" if self.cure else ""
        return f"{place}{self.what}"[:LONGEST] + cure


class DeployReport(Struct, frozen=True):
    """What a deploy reports about itself while it runs.

    The project's cluster/reports/outcome.py describes it.

    outcome: "converged", "changed", "refused", "failed", "interrupted" (also while it runs), ...
    step: what it is doing, or did last
    """

    version: int
    outcome: str
    step: str = ""
    findings: tuple[DeployFinding, ...] = ()


def read_report(file: Path) -> DeployReport | None:
    """Read a deploy's report; None if there is none, or it can't be read."""
    try:
        report = msgspec.json.decode(file.read_bytes(), type=DeployReport)
    except (OSError, msgspec.DecodeError):
        return None
    return report if report.version == VERSION else None


def deploy_argv(pyinfra: str, inventory: Path, data: variants.Settings, report: Path) -> list[str]:
    """The command line of a deploy that writes its report to a file.

    A failed deploy does not restore what served before it: the next model follows, and what was
    served before the suite is restored at its end.
    """
    settings = {"rollback": False, **data, "report": str(report)}
    pairs = [
        ("--data", f"{name}={variants.format_setting(value)}") for name, value in settings.items()
    ]
    return [pyinfra, "-y", str(inventory), "deploy.py", *(word for pair in pairs for word in pair)]


class TransferWatch:
    """Decides with each line of a deploy whether the start-up time limit starts over.

    It starts over with every line of a transfer to the nodes, so that only a transfer that prints
    nothing for the whole limit is ended, and once more at the step after a transfer.
    """

    def __init__(self, report: Path) -> None:
        self._report, self._under_way = report, False

    def __call__(self, line: str) -> bool:
        before, report = self._under_way, read_report(self._report)
        self._under_way = report is not None and report.step in TRANSFERS
        return before or self._under_way


def deploy_failure(
    ended: child.ChildExit, report: DeployReport | None, seconds: float
) -> suite_rows.CaseFailure | None:
    """What went wrong with a deploy; None: nothing. seconds: its start-up time limit"""
    if ended.code is None:
        lines = [line.strip() for line in ended.lines if line.strip() and " | " not in line]
        # Remove pyinfra's marks of the operation and the host.
        last = re.sub(r"^(--> )?(\[[^\]]+\] ?)?", "", lines[-1]) if lines else ""
        return suite_rows.CaseFailure(
            "STARTUP_FAILED",
            f"not served within {formats.duration(seconds)} "
            "(--startup-timeout, not counting downloads)"
            f"{f': {last[:LONGEST]}' if last else ''}",
        )
    output = "; ".join(line[:LONGEST] for line in project.closing_lines("\n".join(ended.lines)))
    if report is None:
        return suite_rows.CaseFailure(
            "STARTUP_FAILED",
            f"the deploy ended with exit code {ended.code} and left no report: "
            f"{output or 'it printed nothing'}",
        )
    if report.outcome in SERVES and not ended.code:
        return None
    failures = [finding for finding in report.findings if finding.level == "error"]
    errors = dict.fromkeys(map(str, failures))
    wrong = any(f.key.startswith(PROBE) and f.key != UNREAD for f in failures)
    return suite_rows.CaseFailure(
        "CONFIG_FAILED"
        if report.outcome == "refused"
        else "WRONG_ANSWERS"
        if wrong
        else "STARTUP_FAILED",
        "; ".join(list(errors)[:MOST_FINDINGS])
        or f"the deploy ended as {report.outcome}, with exit code {ended.code}: {output}",
    )


def probe_warnings(report: DeployReport | None) -> str:
    """What the probes of a deploy doubt, or that none were sent, as sentences; "": nothing."""
    findings = report.findings if report else ()
    doubts = (
        str(finding)
        for finding in findings
        if finding.level == "warning" and finding.key.startswith((PROBE, PROBES_OFF))
    )
    return "; ".join(list(dict.fromkeys(doubts))[:MOST_FINDINGS])


# ---- what is served now, seen from outside


def serving_problem(case: plan.Case, listing: project.ProjectListing, names: Sequence[str]) -> str:
    """What is wrong with what is served for a case; "": nothing. names: ids in /v1/models"""
    head = listing.head
    if head is None:
        return f"nothing is running; expected {case.model}"
    if head.model != case.model:
        return f"serves {head.model}, expected {case.model}"
    if case.served_variant and listing.served_variant != case.served_variant:
        served, wanted = listing.served_variant, case.served_variant
        return f"serves {case.model}'s variant {served}, expected {wanted}"
    if names and case.served not in names:
        return f"serves {', '.join(names)}, expected {case.served}"
    if not names:
        return f"{listing.url}/v1/models lists nothing, expected {case.served}"
    for name, value in case.settings.items():
        actual = head.launch.get(LAUNCH.get(name, ""), value)
        if value not in ("auto", actual) and not (value == "none" and not actual):
            return f"serves {case.model} with {name} = {actual}, expected {value}"
    return ""


def fetch_served_names(url: str, key: secret.Secret | None) -> list[str]:
    """The ids in /v1/models; empty if there is no such answer."""
    import httpx

    headers = {"accept-encoding": "identity"}
    if key:
        headers["authorization"] = f"Bearer {key.reveal()}"
    body = b""
    with (
        suppress(httpx.HTTPError, httpx.InvalidURL),
        httpx.stream(
            "GET", f"{url}/v1/models", headers=headers, timeout=SECONDS, trust_env=False
        ) as response,
    ):
        for piece in response.iter_raw():
            body += piece
            if len(body) > MOST_BYTES:
                return []
        return [model.id for model in parse_models(body)] if response.is_success else []
    return []


def served_before(listing: project.ProjectListing, ask: AskProject) -> job.ServedBefore | None:
    """What runs now, and the settings of a deploy that brings it back; None: nothing runs.

    ask: what the project says of settings: what it would add by itself is not set
    """
    head = listing.head
    if head is None:
        return None
    launch: dict[str, Any] = head.launch
    alone = launch.get("nnodes") == 1 and len(listing.nodes) > 1
    spread = {"tensor_parallel": launch.get("tp"), "pipeline_parallel": launch.get("pp")}
    data: variants.Settings = {
        "model": head.model,
        **({"head_only": True} if alone else spread),
        **{name: launch.get(name) for name in RESTORED},
        **{
            name: launch.get(name, "") or "none"
            for name in ("reasoning_parser", "tool_call_parser")
        },
        "extra_args": launch.get("extra_args") or None,
        "kv_cache_dtype": launch.get("kv_cache_dtype") or None,
    }
    if head.variant or listing.declares_variant:
        data["variant"] = head.variant or "auto"
    if launch.get("served_model_name") != head.model:
        data["served_model_name"] = launch.get("served_model_name") or None
    data = {name: value for name, value in data.items() if value is not None}
    return job.ServedBefore(
        model=head.model,
        data=data | _draft_and_image(data, head, ask),
        specs=tuple(rank.spec for rank in listing.ranks),
    )


def _draft_and_image(
    data: variants.Settings, head: project.ProjectRank, ask: AskProject
) -> variants.Settings:
    """The draft and the image of what runs, where they aren't those that its variant has."""
    arguments = head.launch.get("model_args") or []
    drafts: list[variants.Settings] = [{}]
    if arguments:
        at = arguments.index(DRAFT) + 1 if DRAFT in arguments else len(arguments)
        drafts += [{"draft": draft} for draft in (*arguments[at : at + 1], "none")]
    answers = ask([data | draft for draft in drafts])
    same = (pair for pair in zip(drafts, answers, strict=True) if [*pair[1].arguments] == arguments)
    draft, answer = next(same, (drafts[0], answers[0]))
    return draft if head.image in ("", answer.image) else {**draft, "image": head.image}

"""The deploy of one model by the project's own command line: why it failed, and what serves now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_bench.formats import duration
from spark_bench.project import Listing, last_lines
from spark_bench.protocol.models import models as listed_models
from spark_bench.suite.child import ChildExit
from spark_bench.suite.job import ServedBefore
from spark_bench.suite.plan import Case
from spark_bench.suite.rows import CaseFailure
from spark_bench.suite.variants import Settings, format_setting

if TYPE_CHECKING:
    from spark_bench.secret import Secret

# What the project says where it refuses before any rank was touched (its control/shared.py and
# operations/serving.py). pyinfra's exit code is 1 for everything.
REFUSED = ("refused, nothing was changed:", "refused; what came is kept")
# More lines say the same once more.
LINES = 4
LINE = 400  # characters
# Lines of pyinfra's log that say nothing of a cause.
_NOISE = re.compile(
    r"waiting, \d|every rank |Error: executed|(Error|Success|No changes|Skipped|Connected)$|Ready: "
    r"|Connecting to |Loading "
)
# The operations of the project's deploy.py that bring what is large. Each has limits of its own
# (download_stall_timeout, pull_timeout) and a line of progress every 10 s.
_TRANSFERS = re.compile(r"(Image |tiktoken vocabularies|Weights of )")
_OPERATION = "--> Starting operation: "
_HOST = re.compile(r"\[([^\]]+)\] ?(.*)")

# Settings that a rank's listing has, by the name that they have there.
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
SECONDS = 30.0
# Of the list of models.
MOST_BYTES = 16 * 1024 * 1024


def deploy_argv(pyinfra: str, inventory: Path, data: Settings) -> list[str]:
    """The command line. A model that fails is followed by the next one: what served before the
    whole suite is restored at its end, not after each failure."""
    settings = {"rollback": False, **data}
    pairs = [("--data", f"{name}={format_setting(value)}") for name, value in settings.items()]
    return [pyinfra, "-y", str(inventory), "deploy.py", *(word for pair in pairs for word in pair)]


class DownloadWatch:
    """Given a deploy's lines one by one: whether the time for the start-up counts anew from there.

    It does as long as something is brought to the nodes, so that only a deploy which says nothing
    for all that time is ended then, and once more with the operation after that.
    """

    def __init__(self) -> None:
        self._under_way = False

    def __call__(self, line: str) -> bool:
        before = self._under_way
        if line.startswith(_OPERATION):
            self._under_way = bool(_TRANSFERS.match(line, len(_OPERATION)))
        return before or self._under_way


def deploy_failure(ended: ChildExit, seconds: float) -> CaseFailure | None:
    """What went wrong with a deploy that had so many seconds; None: nothing."""
    if ended.code == 0:
        return None
    if ended.code is None:
        last = _last_line(ended.lines)
        return CaseFailure(
            "STARTUP_FAILED",
            f"not served within {duration(seconds)} (--startup-timeout, not counting downloads)"
            f"{f': {last}' if last else ''}",
        )
    if refusal := _refusal(ended.lines):
        return CaseFailure("CONFIG_FAILED", refusal)
    return CaseFailure("STARTUP_FAILED", _causes(ended.lines) or f"pyinfra ended with {ended.code}")


def _refusal(lines: Sequence[str]) -> str:
    """What stands below the refusal; "" where nothing was refused."""
    for number, line in enumerate(lines):
        if any(text in line for text in REFUSED):
            below = lines[number + 1 :]
            texts = (_unmarked(text) for text in below[: _block(below)])
            return _joined(text for text in texts if _is_cause(text))
    return ""


def _block(lines: Sequence[str]) -> int:
    """How many lines belong together: until an empty one, or pyinfra's next heading."""
    ends = (n for n, line in enumerate(lines) if not line.strip() or line.startswith("--> "))
    return next(ends, len(lines))


def _causes(lines: Sequence[str]) -> str:
    """The lines of the operation that failed which say why: neither a rank's log nor progress."""
    marks = [n for n, line in enumerate(lines) if line.startswith(_OPERATION)]
    texts = (
        [m[2] for line in lines[marks[-1] :] if (m := _HOST.match(line.strip()))] if marks else []
    )
    # Before any operation the last lines don't name their hosts themselves.
    last = [line for line in last_lines("\n".join(lines)) if _is_cause(_unmarked(line))]
    return _joined(text for text in texts if _is_cause(text)) or _joined(last)


def _is_cause(text: str) -> bool:
    return bool(text) and not _NOISE.match(text) and " | " not in text


def _last_line(lines: Sequence[str]) -> str:
    """Where a deploy was when its time was over."""
    texts = [_unmarked(line) for line in lines if line.strip() and " | " not in line]
    return texts[-1][:LINE] if texts else ""


def _unmarked(line: str) -> str:
    """Without pyinfra's mark of the host, which the text names where it matters."""
    text = line.strip().removeprefix("--> ")
    match = _HOST.match(text)
    return match[2].strip() if match else text


def _joined(lines: Iterable[str]) -> str:
    texts = [line.strip()[:LINE] for line in lines if line.strip()]
    return "; ".join(dict.fromkeys(texts[:LINES]))


# ---- what serves now, seen from outside


def serving_problem(case: Case, listing: Listing, names: Sequence[str]) -> str:
    """What is wrong with what is served; "": nothing. names: the ids in /v1/models."""
    head = listing.head
    if head is None:
        return f"nothing is running; expected {case.model}"
    if head.model != case.model:
        return f"serves {head.model}, expected {case.model}"
    if names and case.served not in names:
        return f"serves {', '.join(names)}, expected {case.served}"
    if not names:
        return f"{listing.url}/v1/models lists nothing, expected {case.served}"
    for name, value in case.settings.items():
        actual = head.launch.get(LAUNCH.get(name, ""), value)
        if value not in ("auto", actual) and not (value == "none" and not actual):
            return f"serves {case.model} with {name} = {actual}, expected {value}"
    return ""


def fetch_served_names(url: str, key: Secret | None) -> list[str]:
    """The ids in /v1/models; none where nothing answers so."""
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
        return [model.id for model in listed_models(body)] if response.is_success else []
    return []


def served_before(listing: Listing) -> ServedBefore | None:
    """What runs now, with the settings for the deploy that brings it back; None: nothing runs."""
    head = listing.head
    if head is None:
        return None
    launch: dict[str, Any] = head.launch
    alone = launch.get("nnodes") == 1 and len(listing.nodes) > 1
    spread = {"tensor_parallel": launch.get("tp"), "pipeline_parallel": launch.get("pp")}
    data: Settings = {
        "model": head.model,
        **({"head_only": True} if alone else spread),
        **{name: launch.get(name) for name in RESTORED},
        **{
            name: launch.get(name, "") or "none"
            for name in ("reasoning_parser", "tool_call_parser")
        },
        "extra_args": launch.get("extra_args") or None,
        "image": head.image or None,
    }
    if launch.get("served_model_name") != head.model:
        data["served_model_name"] = launch.get("served_model_name") or None
    return ServedBefore(
        model=head.model,
        data={name: value for name, value in data.items() if value is not None},
        specs=tuple(rank.spec for rank in listing.ranks),
    )

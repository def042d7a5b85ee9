"""The container engine, and the containers that are ours or bear our names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyinfra.api import FactBase, QuoteString, StringCommand

from cluster import node
from cluster.docker import LABEL
from cluster.words import bounded
from facts.shell import quoted

# A healthy daemon answers in well under a second; one that thrashes or hangs must not hold us.
SECONDS = 30


class Containers(FactBase[list[node.Rank]]):
    """Containers that carry our label, and those under one of `names`, ours or not.

    A daemon that can't be asked fails the fact: no answer is never "nothing there".
    """

    default = staticmethod(list[node.Rank])

    def command(self, names: Sequence[str] = (), seconds: int = SECONDS) -> StringCommand:
        list_all = ("docker", "ps", "--all", "--no-trunc", "--format", _selection(names))
        return StringCommand(
            "ids=$(",
            quoted(bounded(seconds, *list_all)),
            ') || exit; [ -z "$ids" ] ||',
            quoted(bounded(seconds, "docker", "inspect", "--type=container", "--format")),
            QuoteString("{{json .}}"),
            "$ids",
        )

    def process(self, output: list[str]) -> list[node.Rank]:
        found = [_rank(json.loads(line)) for line in output if line.startswith("{")]
        return sorted(found, key=lambda rank: rank.name)


def _selection(names: Sequence[str]) -> str:
    """Docker's template that prints the id of a container we look for, else an empty line."""
    labelled = f"(.Label {json.dumps(LABEL)})"
    named = "".join(f" (eq .Names {json.dumps(name)})" for name in names)
    return f"{{{{if or {labelled}{named}}}}}{{{{.ID}}}}{{{{end}}}}"


def _rank(seen: dict[str, Any]) -> node.Rank:
    state, policy = seen["State"], seen["HostConfig"]["RestartPolicy"]
    # Docker's zero time; and a running container's ExitCode is 0, whatever its last end was.
    ended = not state["FinishedAt"].startswith("0001-") and state["Status"] != "running"
    return node.Rank(
        name=seen["Name"].removeprefix("/"),
        id=seen["Id"],
        status=state["Status"],
        image_id=seen["Image"],
        spec=(seen["Config"].get("Labels") or {}).get(LABEL),
        exit_code=state["ExitCode"] if ended else None,
        oom_killed=state["OOMKilled"],
        restarts=seen["RestartCount"],
        restart_policy=policy["Name"] or "no",
        started_at=state["StartedAt"],
    )


class EngineState(FactBase[node.Engine]):
    """Whether Docker can be asked, its version and runtimes ("cdi": it can hand out NVIDIA GPUs).

    Never fails: what stands in the way is `error`.
    """

    @staticmethod
    def default() -> node.Engine:
        return node.Engine(error="broken", detail="docker said nothing")

    def command(self, seconds: int = SECONDS) -> StringCommand:
        return StringCommand(
            "if command -v docker >/dev/null; then",
            quoted(bounded(seconds, "docker", "info", "--format", "{{json .}}")),
            '2>&1 || echo "docker info: exit status $?"; else echo missing; fi',
        )

    def process(self, output: list[str]) -> node.Engine:
        if output == ["missing"]:
            return node.Engine(error="missing", detail="there is no docker command")
        printed = (line for line in output if line.startswith("{"))
        info: dict[str, Any] = json.loads(next(printed, "{}"))
        words = [*(info.get("ServerErrors") or ()), *(x for x in output if x[:1] != "{")]
        if not info.get("ServerVersion"):
            return node.Engine(error=_kind(" ".join(words)), detail=words[0] if words else "")
        return node.Engine(info["ServerVersion"], _runtimes(info))


def _kind(words: str) -> str:
    words = words.lower()
    if "permission denied" in words:
        return "denied"
    # Docker 29 says "check if the path is correct and if the daemon is running".
    stopped = ("is the docker daemon running", "if the daemon is running", "connection refused")
    return "stopped" if any(phrase in words for phrase in stopped) else "broken"


def _runtimes(info: dict[str, Any]) -> tuple[str, ...]:
    devices = [device.get("ID", "") for device in info.get("DiscoveredDevices") or ()]
    cdi = ["cdi"] if any(id_.startswith("nvidia.com/gpu") for id_ in devices) else []
    return (*sorted(info.get("Runtimes") or ()), *cdi)

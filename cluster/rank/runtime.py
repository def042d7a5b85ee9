"""How ranks are run: what every runtime can be told to do with one."""

from __future__ import annotations

from typing import Protocol

from cluster.command import Command
from cluster.node.readings import Rank
from cluster.rank import docker, process
from cluster.rank.spec import Spec


class Runtime(Protocol):
    """A command for each verb; None where a runtime has no such verb."""

    def create(self, spec: Spec, *, cdi: bool = False) -> Command | None: ...
    def start(self, spec: Spec) -> Command: ...
    def keep(self, name: str, policy: str) -> Command | None: ...
    def release(self, name: str) -> Command | None: ...
    def stop(self, rank: Rank, seconds: int) -> Command: ...
    def rename(self, name: str, new: str) -> Command | None: ...
    def remove(self, name: str) -> Command: ...
    def logs(self, name: str, lines: int, *, earlier: bool = False) -> Command: ...


def runtime_of(setting: str) -> Runtime:
    """The runtime that the setting `runtime` names."""
    return {"docker": docker, "process": process}[setting]

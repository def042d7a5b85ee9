"""Servers for the benchmark client's tests, all on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from awkward_server import AwkwardServer
from spark_bench.ruler.ruler import Ruler


@pytest.fixture(scope="session")
def ruler_process() -> Iterator[Ruler]:
    with Ruler() as ruler:
        yield ruler


@pytest.fixture
def ruler(ruler_process: Ruler) -> Ruler:
    """The built-in ruler, with its defaults and an empty log."""
    ruler_process.configure()
    ruler_process.reset()
    return ruler_process


@pytest.fixture(scope="session")
def awkward_process() -> Iterator[AwkwardServer]:
    with AwkwardServer() as server:
        yield server


@pytest.fixture
def awkward(awkward_process: AwkwardServer) -> AwkwardServer:
    """The server of faults: `awkward.at("cut_by_reset")` is the URL of one of them."""
    awkward_process.calls.clear()
    return awkward_process

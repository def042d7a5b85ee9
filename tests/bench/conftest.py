"""Servers for the benchmark client's tests, all on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faulty_server import FaultyServer
from spark_bench.reference_server.launcher import ReferenceServer


@pytest.fixture(scope="session")
def reference_process() -> Iterator[ReferenceServer]:
    with ReferenceServer() as reference:
        yield reference


@pytest.fixture
def reference(reference_process: ReferenceServer) -> ReferenceServer:
    """The built-in reference server, with its defaults and an empty log."""
    reference_process.configure()
    reference_process.reset()
    return reference_process


@pytest.fixture(scope="session")
def faulty_process() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


@pytest.fixture
def faulty(faulty_process: FaultyServer) -> FaultyServer:
    """The server of faults: `faulty.at("cut_by_reset")` is the URL of one of them."""
    faulty_process.calls.clear()
    return faulty_process

"""For every layer."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import gevent.monkey
import hypothesis
import pytest

# pyinfra's command line, of which pyinfra-testing wants a function, replaces threads as it is
# imported: servers that tests run in threads, and xdist's workers, would hang.
gevent.monkey.patch_all = lambda: None
# An example may take long on a busy machine.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Leave thousands of tests and their modules out of every later garbage collection: a load of
    spark-bench begins with a full one."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Write what each test took to $TEST_COSTS, for `tests/layers.py`."""
    before, cpu = time.monotonic(), os.times()
    result = yield
    if file := os.environ.get("TEST_COSTS"):
        spent = sum(os.times()[:4]) - sum(cpu[:4])
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        with open(f"{file}{worker}", "a") as costs:
            took = time.monotonic() - before
            costs.write(json.dumps([round(took, 2), round(spent, 2), item.nodeid]) + "\n")
    return result


@pytest.fixture(scope="session", autouse=True)
def history_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """spark-bench's store of results; the user's own stays as it is."""
    store = tmp_path_factory.mktemp("history") / "history.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "SPARK_BENCH_HISTORY", str(store))
        yield store

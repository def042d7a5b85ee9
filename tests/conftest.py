"""For every layer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import gevent.monkey
import pytest

THREADED = ("bench", "browser", "local")


def pytest_collection_finish(session: pytest.Session) -> None:
    """pyinfra-testing replaces threads as it is imported: what reads in a thread would hang."""
    ours = {item.path.relative_to(Path(__file__).parent).parts[0] for item in session.items}
    if gevent.monkey.is_module_patched("threading") and ours & set(THREADED):
        names = " ".join(f"tests/{name}" for name in THREADED)
        raise pytest.UsageError(
            f"{names} need a process of their own: make test, or pytest {names}"
        )


@pytest.fixture(scope="session", autouse=True)
def history_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """spark-bench's store of results; the user's own stays as it is."""
    store = tmp_path_factory.mktemp("history") / "history.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "SPARK_BENCH_HISTORY", str(store))
        yield store

"""Progress lines while something takes its time."""

from __future__ import annotations

import gevent
import pytest

from operations import ticking


@pytest.mark.parametrize(
    "error", [pytest.param(None, id="it ends"), pytest.param(OSError(), id="it fails")]
)
def test_it_ticks_until_the_end(monkeypatch: pytest.MonkeyPatch, error: OSError | None) -> None:
    monkeypatch.setattr(ticking, "REPORT_SECONDS", 0.02)
    told: list[float] = []
    try:
        with ticking.ticking(told.append):
            with gevent.Timeout(10):
                while len(told) < 3:
                    gevent.sleep(0.005)
            if error:
                raise error
    except OSError as e:
        assert e is error
    at_the_end = list(told)
    gevent.sleep(0.1)
    assert told == at_the_end == sorted(told)
    assert told[0] >= 0.02

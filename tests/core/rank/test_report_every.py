"""Progress lines while something takes its time."""

from __future__ import annotations

import gevent
import pytest

from operations import shell


@pytest.mark.parametrize(
    "error", [pytest.param(None, id="it ends"), pytest.param(OSError(), id="it fails")]
)
def test_reports_come_until_the_block_ends(
    monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    monkeypatch.setattr(shell, "REPORT_SECONDS", 0.02)
    reports: list[float] = []
    try:
        with shell.report_every(reports.append):
            with gevent.Timeout(10):
                while len(reports) < 3:
                    gevent.sleep(0.005)
            if error:
                raise error
    except OSError as e:
        assert e is error
    at_the_end = list(reports)
    gevent.sleep(0.1)
    assert reports == at_the_end == sorted(reports)
    assert reports[0] >= 0.02

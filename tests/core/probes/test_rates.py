"""The rates of the probes: what is written of them, and that page and thresholds agree."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from cluster.probes.thresholds import Detection, Measured, Thresholds, Trial, thresholds

sys.path.append(str(Path(__file__).parents[2] / "probe_rates"))

import rates


@pytest.mark.parametrize(
    ("alarms", "runs", "upper"),
    [(0, 200, 1 - 0.05 ** (1 / 200)), (0, 8, 1 - 0.05 ** (1 / 8)), (3, 3, 1.0), (1, 20, 0.2161)],
)
def test_the_bound_is_that_of_clopper_and_pearson(alarms: int, runs: int, upper: float) -> None:
    assert rates.bound(alarms, runs) == pytest.approx(upper, abs=1e-4)


def test_what_is_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, page = tmp_path / "thresholds.toml", tmp_path / "probes.md"
    file.write_text(rates.THRESHOLDS.read_text())
    page.write_text(rates.PAGE.read_text())
    monkeypatch.setattr(rates, "THRESHOLDS", file)
    monkeypatch.setattr(rates, "PAGE", page)
    trials = [Trial("text", 'a "model"', "real model", 200, 0)]
    detections = [Detection("only !", "a model", 5, 4, {"text": 4})]
    for _ in range(2):
        rates.write(Measured(tuple(trials), tuple(detections)))
        table = rates.msgspec.convert(tomllib.loads(file.read_text()), type=Thresholds)
        assert list(table.measured.trials) == trials
        assert list(table.measured.detections) == detections
        assert table.limits == thresholds().limits
        assert '| text | a "model" | 200 | 0 | 1.5 % |' in page.read_text()


def test_the_page_has_the_rates_of_the_file_and_the_misses_of_the_tree() -> None:
    page = rates.PAGE.read_text()
    assert rates.page(thresholds().measured) in page
    assert rates.misses() in page

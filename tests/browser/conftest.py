"""A browser for all tests, and a page of realistic results. Screenshots go to $SHOTS, if set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import Chromium, chromium
from click.testing import CliRunner
from quality_samples import a_quality_file
from report_samples import save, several
from spark_bench.cli import main


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if not shutil.which("chromium"):
        problem = "chromium is missing: tests/browser/install-packages"
        # Its absence must not look like success where everything has to be tested.
        pytest.fail(problem) if os.environ.get("CI") == "true" else pytest.skip(problem)
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    target = folder / "report.html"
    runs = several()
    results = save(runs, folder / "results")
    # A model with right answers, one with a long wrong one, and one without any right answer.
    for number, outcomes in ((0, "1" * 50 + "0" * 10), (6, "1" * 59 + "0"), (13, "0" * 60)):
        config = runs[number].config
        a_quality_file(results, f"score-{number}", outcomes, model=config.model, url=config.url)
    done = CliRunner().invoke(main, ["report", str(results), "-o", str(target)])
    assert done.exit_code == 0, done.output
    return target


@pytest.fixture(scope="session")
def keep() -> Callable[[str, bytes], None]:
    """Put a picture where somebody may look at it."""

    def keep_picture(name: str, data: bytes) -> None:
        if folder := os.environ.get("SHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(data)

    return keep_picture

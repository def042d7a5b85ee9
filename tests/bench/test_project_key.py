"""The project's own API key is found by its listing, and shown to the project's server alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_project import LOAD, FakeProject

KEY = "sk-planted-project-key"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeProject]:
    """A project whose server wants the key in `key`."""
    with FakeProject(tmp_path) as project:
        project.key = KEY
        (tmp_path / "key").write_text(f"{KEY}\n")
        (tmp_path / "key").chmod(0o600)
        settings = project.read("settings.json")
        project.write("settings.json", **settings, api_key_file=str(tmp_path / "key"))
        yield project


def written(fake: FakeProject) -> list[Path]:
    """Files that hold the key."""
    files = (path for path in fake.folder.rglob("*") if path.is_file())
    return [path for path in files if KEY.encode() in path.read_bytes()]


def run(fake: FakeProject, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-P", "-m", "spark_bench", "run", *LOAD[1:], *words]
    return subprocess.run(
        [*program, "--output", "r.json", "--no-history"],
        cwd=fake.folder,
        env=fake.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_all_needs_no_key_of_its_own(fake: FakeProject) -> None:
    done = fake.all("--yes", "--models", "a")
    assert fake.statuses == {"a": "OK"}, done.err
    assert written(fake) == [fake.folder / "key"]
    assert run(fake, "--project", str(fake.folder)).returncode == 0
    assert written(fake) == [fake.folder / "key"]


def test_a_file_that_is_gone_is_named(fake: FakeProject) -> None:
    (fake.folder / "key").unlink()
    fake.all("--yes", "--models", "a")
    assert fake.statuses == {"a": "STARTUP_FAILED"}
    done = run(fake, "--project", str(fake.folder))
    assert done.returncode == 2
    assert f"api_key_file = {fake.folder / 'key'} can't be read" in done.stderr


def test_another_server_never_sees_it(fake: FakeProject) -> None:
    fake.all("--yes", "--models", "a")
    url = str(fake.read("settings.json")["url"])
    done = run(fake, "--project", str(fake.folder), "--url", url)
    assert done.returncode != 0
    assert "answers 401" in done.stderr

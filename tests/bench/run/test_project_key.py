"""What a project says, its API key first of all, is for the project's own server alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_project import LOAD, Done, FakeProject
from faulty_server import FaultyServer
from spark_bench.results.codec import read_result
from spark_bench.run.reach import same_server

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


def run(fake: FakeProject, *words: str) -> Done:
    return fake.type_here("run", *LOAD[1:], *words, "--output", "r.json", "--no-history")


def test_bench_all_needs_no_key_of_its_own(fake: FakeProject) -> None:
    done = fake.all("--yes", "--models", "a")
    assert fake.statuses == {"a": "OK"}, done.err
    assert written(fake) == [fake.folder / "key"]
    assert run(fake, "--project", str(fake.folder)).code == 0
    assert written(fake) == [fake.folder / "key"]


def test_a_file_that_is_gone_is_named(fake: FakeProject) -> None:
    (fake.folder / "key").unlink()
    fake.all("--yes", "--models", "a")
    assert fake.statuses == {"a": "STARTUP_FAILED"}
    done = run(fake, "--project", str(fake.folder))
    assert done.code == 2
    assert f"api_key_file = {fake.folder / 'key'} can't be read" in done.err


def test_another_server_never_sees_the_key(fake: FakeProject) -> None:
    fake.deploy("a")
    url = str(fake.read("settings.json")["url"])
    done = run(fake, "--project", str(fake.folder), "--url", url)
    assert done.code != 0
    assert "answers 401" in done.err


def test_an_inventory_does_not_describe_another_server(fake: FakeProject) -> None:
    """Neither what is deployed nor its nodes' power is in the result, and the key is not shown."""
    fake.deploy("a")
    with FaultyServer() as other:
        done = run(fake, "--project", str(fake.folder), "--url", other.url, "--power")
    assert done.code == 0, done.err
    result = read_result(fake.folder / "r.json")
    assert result.provenance.deployment is None and result.provenance.project is None
    assert result.nodes is None
    assert any(f"not at {other.url}: this result has neither" in n for n in result.notes)
    assert not any("authorization" in call.headers for call in other.calls)


def test_its_own_server_is_known_by_any_of_its_names(fake: FakeProject) -> None:
    fake.deploy("a")
    url = str(fake.read("settings.json")["url"]).replace("127.0.0.1", "localhost")
    done = run(fake, "--project", str(fake.folder), "--url", url, "--power")
    assert done.code == 0, done.err
    deployment = read_result(fake.folder / "r.json").provenance.deployment
    assert deployment and deployment.model == "org/a"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:30000", "http://localhost:30000", True),
        ("http://127.0.0.1:30000", "http://[::1]:30000/base", True),
        ("http://127.0.0.1", "http://127.0.0.1:80", True),
        ("https://127.0.0.1", "https://localhost:443", True),
        ("http://spark.invalid:30000", "http://SPARK.invalid:30000", True),
        ("http://127.0.0.1:30000", "http://127.0.0.1:30001", False),
        ("http://192.0.2.1:30000", "http://192.0.2.2:30000", False),
        ("http://spark.invalid:30000", "http://127.0.0.1:30000", False),
        ("http://127.0.0.1", "https://127.0.0.1", False),
    ],
)
def test_urls_of_one_server(one: str, other: str, same: bool) -> None:
    assert same_server(one, other) is same

"""Asking a project for its deployment: what it prints, and everything that can be wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from spark_bench import project
from spark_bench.errors import BadInput, BenchError
from spark_bench.project import find_listing

ROOT = Path(__file__).parents[2]
LISTING = {
    "version": 1,
    "light": False,
    "url": "http://spark-1:30000",
    "runs": True,
    "served_model_name": "m",
    "model": "org/m",
    "group": "sglang",
    "state": "running",
    "ranks": [
        {
            "node": "spark-1", "rank": 0, "name": "sglang-head", "runtime": "docker",
            "model": "org/m", "image": "i:t", "image_id": "sha256:ab", "sglang": "0.5.3",
            "spec": "cd", "launch": {"tp": 2}, "started_at": "2025-05-01T10:00:00Z",
        }
    ],
    "nodes": [{"name": "spark-1", "ssh": {"hostname": "spark-1"}}],
    "catalogue": [{"id": "org/m", "alias": "m", "sparks": [1, 2]}],
}  # fmt: skip


def fake_project(folder: Path, script: str) -> Path:
    """A project whose pyinfra is this shell script; its inventory is inventories/spark.py."""
    for path, text in {
        "deploys/listing.py": "",
        "inventories/spark.py": "",
        ".venv/bin/pyinfra": f"#!/bin/sh\n{script}\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / ".venv/bin/pyinfra").chmod(0o755)
    return folder


def printing(folder: Path, **changed: object) -> Path:
    (folder / "told.json").write_text(json.dumps(LISTING | changed))
    return fake_project(folder, 'echo "--> Connecting" >&2; echo "$*" >words; cat told.json')


def test_a_listing_is_typed(tmp_path: Path) -> None:
    listing = find_listing(printing(tmp_path), "inventories/spark.py")
    assert listing is not None
    assert listing.url == "http://spark-1:30000"
    assert listing.head is not None
    assert (listing.head.spec, listing.head.launch) == ("cd", {"tp": 2})
    assert listing.nodes[0].ssh is not None
    assert listing.catalogue[0].sparks == (1, 2)


def test_the_projects_own_pyinfra_runs_the_listing(tmp_path: Path) -> None:
    find_listing(printing(tmp_path), "inventories/spark.py")
    file = tmp_path / "inventories/spark.py"
    assert (tmp_path / "words").read_text().split() == ["-y", str(file), "deploys/listing.py"]


def test_a_light_listing_reads_no_node(tmp_path: Path) -> None:
    find_listing(printing(tmp_path), "inventories/spark.py", light=True)
    words = (tmp_path / "words").read_text().split()
    assert words[1:] == [
        *("@local", "deploys/listing.py", "--data"),
        f"light={tmp_path}/inventories/spark.py",
    ]


@pytest.mark.parametrize(
    "inventory, taken",
    [
        pytest.param("inventories/spark.py", "project/inventories/spark.py", id="the-projects"),
        pytest.param("mine.py", "mine.py", id="from-here"),
    ],
)
def test_inventories_are_found_in_the_folder_or_the_project(
    inventory: str, taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("mine.py", "inventories/spark.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)
    find_listing(printing(tmp_path / "project"), inventory)
    assert (tmp_path / "project/words").read_text().split()[1] == str(tmp_path / taken)


def test_a_stopped_group_has_no_head(tmp_path: Path) -> None:
    listing = find_listing(printing(tmp_path, runs=False, ranks=[]), "inventories/spark.py")
    assert listing is not None
    assert listing.head is None


def test_unknown_new_fields_are_ignored(tmp_path: Path) -> None:
    assert find_listing(printing(tmp_path, something_new=1), "inventories/spark.py") is not None


def test_a_folder_without_project_files_is_not_a_project(tmp_path: Path) -> None:
    assert find_listing(tmp_path, "inventories/spark.py") is None


def test_an_inventory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--inventory nosuch\.py: there is no such file"):
        find_listing(printing(tmp_path), "nosuch.py")


def test_a_failed_listing_quotes_pyinfras_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "--> Connecting to hosts...\n    [spark-1] Could not connect (timed out)\n\n"
        "--> Disconnecting from hosts...\n--> pyinfra error: No hosts remaining!\n"
    )
    script = "cat log >&2; exit 1"
    with pytest.raises(BenchError) as raised:
        find_listing(fake_project(tmp_path, script), "inventories/spark.py")
    message = raised.value.message
    assert message == (
        "the project can't list its deployment: [spark-1] Could not connect (timed out); "
        "measure with --url"
    )


@pytest.mark.parametrize(
    "script, why",
    [
        pytest.param("echo hello", "printed no listing", id="words"),
        pytest.param("""echo '{"version": 1}'""", "printed no listing", id="too-little"),
        pytest.param("""echo '{"version": 9}'""", "has version 9", id="newer"),
        pytest.param("true", "can't list its deployment", id="nothing"),
        pytest.param("exec sleep 30", "within 0.3 s", id="hangs"),
    ],
)
def test_an_invalid_listing_is_one_error_sentence(tmp_path: Path, script: str, why: str) -> None:
    with pytest.raises(BenchError, match=why):
        find_listing(fake_project(tmp_path, script), "inventories/spark.py", seconds=0.3)


def test_a_missing_pyinfra_is_reported_with_a_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printing(tmp_path)
    (tmp_path / ".venv/bin/pyinfra").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(project.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BenchError, match=r"no pyinfra in .*make setup"):
        find_listing(tmp_path, "inventories/spark.py")


@pytest.mark.parametrize("inventory", ["inventories/local.py", "inventories/spark.py"])
def test_this_project_lists_itself_without_asking_a_node(inventory: str) -> None:
    listing = find_listing(ROOT, inventory, light=True)
    assert listing is not None
    assert listing.light
    assert not listing.runs
    assert len(listing.catalogue) >= 14
    local = inventory.endswith("local.py")
    assert listing.url == ("http://127.0.0.1:30000" if local else "http://spark-1:30000")
    assert [node.here for node in listing.nodes] == ([True] if local else [False, False])


def test_user_entries_are_read_beside_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text('head = ["one"]\nworkers = ["two"]\n')
    (tmp_path / "catalog").mkdir()
    mine = 'id = "me/mine"\nalias = "mine"\nweight_bytes = 1_000_000_000\nmem_fraction = 0.5\n'
    (tmp_path / "catalog/mine.toml").write_text(mine)
    (tmp_path / "catalog/qwen7b.toml").write_text('id = "me/seven"\nalias = "qwen7b"\n')
    listing = find_listing(ROOT, str(tmp_path / "two.py"), light=True)
    assert listing is not None
    ids = {model.alias: (model.id, model.number) for model in listing.catalogue}
    assert ids["mine"] == ("me/mine", None) and ids["qwen7b"] == ("me/seven", 3)
    (tmp_path / "catalog/mine.toml").write_text(mine + "weights = 1\n")
    with pytest.raises(BenchError, match=r"mine\.toml: weights is not a key of an entry"):
        find_listing(ROOT, str(tmp_path / "two.py"), light=True)


def test_this_project_lists_its_embedded_default() -> None:
    listing = find_listing(ROOT, "inventories/local.py")
    assert listing is not None
    assert not listing.light
    assert listing.model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert [(node.name, node.here, node.ssh) for node in listing.nodes] == [("@local", True, None)]

"""The listing for other programs, on @fake Sparks: one document on stdout, nothing changed."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import IMAGE_ID, ROOT, Fakes, Run

from cluster.engine.argv import Launch
from control.inventory import api_url

HEAD, WORKER = "@fake/spark-1", "@fake/spark-2"
LISTING = "deploys/listing.py"


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    return Fakes.of(tmp_path)


@pytest.fixture
def served(sparks: Fakes) -> Fakes:
    """Two Sparks that serve the default model already, its weights in their cache."""
    sparks.run_ranks()
    for spark in sparks.sparks:
        spark.answers["refs/$name"] = spark.weights_lines()
    return sparks


def listed(run: Run) -> dict[str, Any]:
    """The document; all of stdout must be it."""
    assert run.code == 0, run.text
    document: dict[str, Any] = json.loads(run.out)
    assert document["version"] == 1
    return document


def test_the_running_group_is_listed_from_its_label(served: Fakes) -> None:
    listing = listed(served.deploy(file=LISTING))
    assert (listing["runs"], listing["light"]) == (True, False)
    assert listing["url"] == f"http://{HEAD}:30000"
    assert listing["served_model_name"] == listing["model"] == "openai/gpt-oss-120b"
    assert [(r["node"], r["rank"], r["name"]) for r in listing["ranks"]] == [
        (HEAD, 0, "sglang-head"),
        (WORKER, 1, "sglang-worker-1"),
    ]
    head = listing["ranks"][0]
    label = served.sparks[0].container["Config"]["Labels"]["spark-serving.spec"]  # type: ignore[index]
    assert head["spec"] == sha256(label.encode()).hexdigest()
    assert head["image_id"] == IMAGE_ID
    assert head["started_at"] == "2025-05-01T10:00:00Z"
    assert head["launch"] == json.loads(label)["launch"]
    assert (head["launch"]["tp"], head["launch"]["nnodes"]) == (2, 2)


def test_a_rank_has_its_variants_name_unless_it_is_the_default(served: Fakes) -> None:
    labels = served.sparks[1].container["Config"]["Labels"]  # type: ignore[index]
    spec = json.loads(labels["spark-serving.spec"])
    labels["spark-serving.spec"] = json.dumps(spec | {"variant": "release"})
    listing = listed(served.deploy(file=LISTING))
    assert [rank["variant"] for rank in listing["ranks"]] == ["", "release"]
    defaults = {entry["id"]: entry["default_variant"] for entry in listing["catalogue"]}
    assert defaults[listing["model"]] == "spark"


def test_it_changes_nothing_and_sends_each_node_two_commands(served: Fakes) -> None:
    run = served.deploy(file=LISTING)
    counts = {node: len(scripts) for node, scripts in run.commands.items()}
    assert counts == {HEAD: 2, WORKER: 2}
    assert all("refs/$name" in scripts[0] for scripts in run.changes.values())


def test_the_running_label_decides_not_the_settings(served: Fakes) -> None:
    served.data["port"] = 31000
    listing = listed(served.deploy("--data", "model=qwen7b", file=LISTING))
    assert listing["model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert listing["served_model_name"] == "openai/gpt-oss-120b"
    assert listing["url"] == f"http://{HEAD}:30000"


def test_the_revision_is_that_of_the_weights_that_run(served: Fakes) -> None:
    listing = listed(served.deploy(file=LISTING))
    assert listing["revision"] == "abc"
    snapshot = "/raid/hf-cache/hub/models--openai--gpt-oss-120b/snapshots/abc"
    assert {(n["revision"], n["weights"]) for n in listing["nodes"]} == {("abc", snapshot)}
    # None of these nodes is the machine that lists.
    assert listing["tokenizer"] == ""


def test_weights_that_cannot_be_read_leave_the_revision_open(served: Fakes) -> None:
    for spark in served.sparks:
        spark.answers["refs/$name"] = {"success": False}
    listing = listed(served.deploy(file=LISTING))
    assert listing["runs"]
    assert listing["revision"] == ""


@pytest.mark.parametrize(
    ("came_to", "hostname", "url"),
    [
        pytest.param("10.0.0.5", "spark-1.lan", "http://10.0.0.5:30000", id="ipv4"),
        pytest.param("::ffff:10.0.0.5", "spark-1.lan", "http://10.0.0.5:30000", id="mapped"),
        pytest.param("fd00::5", "spark-1.lan", "http://spark-1.lan:30000", id="ipv6-by-name"),
        pytest.param("fd00::5", "fd00::5", "http://[fd00::5]:30000", id="ipv6-alone"),
    ],
)
def test_the_url_does_not_depend_on_the_ssh_route(came_to: str, hostname: str, url: str) -> None:
    transport = SimpleNamespace(sock=None, getpeername=lambda: (came_to, 22))
    head: Any = SimpleNamespace(
        name="spark-1",
        connector=SimpleNamespace(client=SimpleNamespace(get_transport=lambda: transport)),
        data={"ssh_hostname": hostname, "ssh_config_file": "/dev/null"},
    )
    assert api_url(head, Launch("m", host="0.0.0.0", port=30000)) == url


def test_nothing_runs_is_reported_with_the_declared_address(sparks: Fakes) -> None:
    listing = listed(sparks.deploy("--data", "port=31000", file=LISTING))
    assert (listing["runs"], listing["ranks"]) == (False, [])
    assert listing["url"] == f"http://{HEAD}:31000"


def test_a_head_that_ended_does_not_run(served: Fakes) -> None:
    assert served.sparks[0].container is not None
    served.sparks[0].container["State"]["Status"] = "exited"
    listing = listed(served.deploy(file=LISTING))
    assert listing["runs"] is False
    assert [rank["rank"] for rank in listing["ranks"]] == [1]


def test_unread_facts_are_noted(served: Fakes) -> None:
    served.sparks[1].sections["ranks"] = (1, ["permission denied"])
    listing = listed(served.deploy(file=LISTING))
    assert any("permission denied" in note for note in listing["notes"])


def test_a_refused_declaration_leaves_stdout_empty(sparks: Fakes) -> None:
    run = sparks.deploy("--data", "model=qwen7c", file=LISTING)
    assert (run.code, run.out) == (1, "")
    assert "model = 'qwen7c' is not a model" in run.err


# ---- light: the inventory alone


def light(sparks: Fakes, text: str) -> dict[str, Any]:
    """The light listing of an inventory that says this."""
    inventory = sparks.folder / "light.py"
    inventory.write_text(text)
    return listed(sparks.pyinfra("@local", LISTING, "-y", "--data", f"light={inventory}"))


def test_a_light_listing_has_the_catalog_and_how_to_reach_nodes(sparks: Fakes) -> None:
    listing = light(
        sparks,
        'head = [("spark-1", {"ssh_hostname": "10.0.0.5", "ssh_user": "nvidia", "ssh_port": 2222,'
        ' "ssh_key": "keys/id", "ssh_password": "hunter2"})]\nworkers = ["spark-2"]\n',
    )
    assert (listing["light"], listing["runs"], listing["ranks"]) == (True, False, [])
    assert listing["url"] == "http://10.0.0.5:30000"
    assert listing["nodes"][0]["ssh"] == {
        "hostname": "10.0.0.5",
        "user": "nvidia",
        "port": 2222,
        "key_file": str(ROOT / "keys" / "id"),
        "config_file": "",
        "known_hosts_file": "",
        "strict_host_key_checking": "accept-new",
    }
    assert "hunter2" not in json.dumps(listing)
    entries = {entry["alias"]: entry for entry in listing["catalogue"]}
    assert entries["qwen72b"]["sparks"] == [2, 4, 8]
    assert 1 in entries["gpt-oss-20b"]["sparks"]
    assert (entries["llama8b"]["gated"], entries["llama8b"]["number"]) == (True, 10)
    assert entries["smollm2"]["sparks"] == []


def test_light_guesses_the_head_from_the_ssh_configuration(sparks: Fakes) -> None:
    config = sparks.folder / "ssh_config"
    config.write_text("Host spark-1\n  HostName 192.0.2.7\n")
    listing = light(
        sparks, f'head = [("spark-1", {{"ssh_config_file": "{config}", "port": 31000}})]\n'
    )
    assert listing["url"] == "http://192.0.2.7:31000"


def test_a_light_check_refuses_what_a_deploy_refuses(sparks: Fakes) -> None:
    (sparks.folder / "light.py").write_text('head = [("spark-1", {"prot": 1})]\n')
    run = sparks.pyinfra("@local", LISTING, "-y", "--data", f"light={sparks.folder}/light.py")
    assert (run.code, run.out) == (1, "")
    assert "prot" in run.err

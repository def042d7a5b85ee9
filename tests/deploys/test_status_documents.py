"""The documents behind spark-cluster status and doctor, of @fake Sparks; nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import IMAGE_ID, LEASE, Fakes, container
from right_answers import ASKING, printed

HEAD, WORKER = "@fake/spark-1", "@fake/spark-2"
MODEL = "openai/gpt-oss-120b"
ANSWERS = "printf 'health %s"
WATCHING = "api/v1/query_range"
HEALTHY = ["health 200 0.05", "log The server is fired up and ready to roll!"]
OF_HEAD = [
    f"models {json.dumps({'data': [{'id': MODEL}]})} 200 0.01",
    f'metric sglang:num_running_reqs{{model_name="{MODEL}"}} 2.0',
    f'metric sglang:gen_throughput{{model_name="{MODEL}"}} 75.5',
]
KEYED = ['models {"error":"Unauthorized"} 401 0.01', *OF_HEAD[1:]]


@pytest.fixture
def served(tmp_path: Path) -> Fakes:
    """Two Sparks that serve the default model."""
    sparks = Fakes.of(tmp_path)
    sparks.run_ranks()
    for spark in sparks.sparks:
        spark.answers[ANSWERS] = HEALTHY + (OF_HEAD if spark.rank == 0 else [])
    return sparks


def document(sparks: Fakes, name: str, *data: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The document, which must be all of stdout, and every command that a node was sent."""
    options = [word for setting in data for word in ("--data", setting)]
    inventory = f"inventory={sparks.inventory()}"
    run = sparks.pyinfra("@local", f"deploys/{name}.py", "-y", "--data", inventory, *options)
    assert run.code == 0, run.text
    report: dict[str, Any] = json.loads(run.out)
    return report, run.commands


def test_a_group_that_serves(served: Fakes) -> None:
    report, commands = document(served, "status")
    assert (report["ok"], report["state"], report["served"]) == (True, "ready", [MODEL])
    assert (report["load"]["running"], report["load"]["tokens_per_second"]) == (2, 75.5)
    assert [r["image"] for r in report["ranks"]] == [IMAGE_ID[7:19]] * 2
    assert [r["gpu_watts"] for r in report["ranks"]] == [3.74, 3.74]
    # A reading, the rank's answers, of the head what watches; the fakes don't record the lease.
    assert {node: len(scripts) for node, scripts in commands.items()} == {HEAD: 3, WORKER: 2}
    assert report["watch"] is None


def test_the_alerts_are_those_of_the_host_that_only_monitors(tmp_path: Path) -> None:
    served = Fakes.of(tmp_path, 3)
    head, worker, monitor = (spark.name for spark in served.sparks)
    served.groups = {"head": [head], "workers": [worker], "monitor": [monitor]}
    part = {"group": "sglang", "kind": "prometheus", "name": "p", "image": "i", "memory": "1g"}
    part |= {"at": "127.0.0.1:9090", "args": []}
    alert = {"labels": {"alertname": "swapping", "severity": "warning"}, "annotations": {}}
    alert |= {"state": "firing", "activeAt": "2026-11-27T13:40:00Z"}
    served.sparks[2].answers[WATCHING] = [
        f"prometheus running {json.dumps(part)}",
        f"alerts {json.dumps({'data': {'alerts': [alert]}})}",
    ]
    report, commands = document(served, "status")
    watch = report["watch"]
    assert (watch["host"], watch["address"], watch["answers"]) == (monitor, part["at"], True)
    assert [alert["name"] for alert in watch["alerts"]] == ["swapping"]
    asked = {n: sum(WATCHING in script for script in scripts) for n, scripts in commands.items()}
    assert asked == {head: 0, worker: 0, monitor: 1} and len(commands[monitor]) == 1

    served.sparks[2].answers[WATCHING] = {"success": False, "stderr": ["no such command: docker"]}
    report, _ = document(served, "status")
    assert report["watch"]["lost"] == "no such command: docker"
    served.sparks[2].answers[WATCHING] = []
    report, _ = document(served, "status")
    assert report["watch"] is None


def test_status_takes_the_settings_of_the_deploy(served: Fakes) -> None:
    report, _ = document(served, "status", "mem_fraction=0.5")
    assert (report["ready"], report["ok"]) == (True, False)
    assert f"{HEAD}: mem_fraction: 0.85 -> 0.5" in report["drift"]


def test_a_server_that_wants_a_key_names_its_model_all_the_same(served: Fakes) -> None:
    served.sparks[0].answers[ANSWERS] = HEALTHY + KEYED
    report, _ = document(served, "status")
    assert (report["served"], report["state"]) == ([MODEL], "ready")


def test_a_daemon_that_does_not_answer(served: Fakes) -> None:
    served.sparks[1].sections["ranks"] = (124, [])
    served.sparks[1].sections["engine"] = (0, ["docker info: exit status 124"])
    report, _ = document(served, "status")
    assert (report["ready"], report["ok"]) == (True, False)
    assert report["ranks"][1]["lost"] == "Docker does not respond: no answer in time"
    report, _ = document(served, "doctor")
    (problem,) = [a for a in report["ailments"] if a["where"] == WORKER]
    assert (problem["level"], problem["key"]) == ("error", "docker-silent")


def test_a_failed_switch_leaves_its_rank_and_names_it(served: Fakes) -> None:
    label = served.sparks[0].container["Config"]["Labels"]["spark-serving.spec"]  # type: ignore[index]
    left = container("sglang-head.failed", label, status="exited", code=1)
    served.sparks[0].sections["ranks"] = (
        0,
        [json.dumps(served.sparks[0].container), json.dumps(left)],
    )
    report, _ = document(served, "status")
    assert report["ok"] is True
    assert report["leftovers"] == [
        {"node": HEAD, "container": "sglang-head.failed", "state": "exited", "kind": "failed"}
    ]


def test_no_rank_runs(served: Fakes) -> None:
    for spark in served.sparks:
        spark.container, spark.answers[ANSWERS] = None, ["health 000 0.0"]
    report, _ = document(served, "status")
    assert (report["state"], report["ranks"][0]["state"]) == ("down", "missing")
    report, _ = document(served, "doctor")
    assert [a["key"] for a in report["ailments"] if a["level"] == "error"] == ["no-group"]
    assert report["ok"] is False


def test_a_declaration_that_is_wrong_is_refused_in_one_sentence(served: Fakes) -> None:
    inventory = f"inventory={served.inventory()}"
    words = ("@local", "deploys/status.py", "-y", "--data", inventory, "--data", "model=qwen7c")
    run = served.pyinfra(*words)
    assert (run.code, run.out) == (1, "")
    assert "model = 'qwen7c' is not a model" in run.err


NCCL = "nccl spark-1:1:1 [0] NCCL INFO NCCL version {}+cuda13.0"


def test_the_nccl_that_was_loaded_is_shown_and_judged(served: Fakes) -> None:
    for spark in served.sparks:
        spark.answers[ANSWERS] = [*spark.answers[ANSWERS], NCCL.format("2.28.9")]
    report, _ = document(served, "status")
    assert [rank["nccl"] for rank in report["ranks"]] == [["2.28.9"], ["2.28.9"]]
    assert (report["ok"], report["errors"]) == (True, [])
    assert any("NCCL 2.28.9 has hung over several nodes" in text for text in report["warnings"])
    served.sparks[1].answers[ANSWERS] = [*HEALTHY, NCCL.format("2.29.7")]
    report, _ = document(served, "status")
    assert (report["ready"], report["ok"]) == (True, False)
    (different,) = report["errors"]
    assert different.startswith("the ranks loaded different NCCLs")
    report, _ = document(served, "doctor")
    causes = {a["cause"]: a["level"] for a in report["ailments"]}
    assert "error" in {level for cause, level in causes.items() if "different NCCLs" in cause}


OPEN = "anyone who can reach port 30000 may use the API"


def test_an_open_api_is_reported_once(served: Fakes, tmp_path: Path) -> None:
    """By what runs: a key that the inventory has by now closes nothing yet."""
    key = tmp_path / "key"
    key.write_text("k" * 64)
    key.chmod(0o600)
    listing, _ = document(served, "status", f"api_key_file={key}")
    (warning,) = listing["warnings"]
    assert warning.startswith(OPEN)
    report, _ = document(served, "doctor")
    assert [a["level"] for a in report["ailments"] if a["cause"].startswith(OPEN)] == ["warning"]
    for words in (("deploy.py", "--dry"), ("deploys/check.py", "-y")):
        run = served.pyinfra(str(served.inventory()), *words)
        assert run.text.count(OPEN) == 1


def test_a_loopback_api_warns_nobody(tmp_path: Path) -> None:
    report, _ = document(Fakes.of(tmp_path, 1), "status", "host=127.0.0.1")
    assert report["warnings"] == []


# ---- the model's answers


def test_doctor_probes_a_healthy_group(served: Fakes) -> None:
    served.sparks[0].answers[LEASE] = []
    report, _ = document(served, "doctor")
    assert [what for what in report["looked"] if what.startswith("probes, ")]
    assert not [p for p in report["ailments"] if p["key"].startswith("probe-")]
    served.sparks[0].answers[ASKING] = printed("sums")
    report, _ = document(served, "doctor")
    (problem,) = [p for p in report["ailments"] if p["key"] == "probe-arithmetic"]
    assert (problem["level"], problem["where"]) == ("error", HEAD)


def test_doctor_leaves_a_group_alone_that_another_run_changes(served: Fakes) -> None:
    _, commands = document(served, "doctor")
    assert not any(ASKING in c for scripts in commands.values() for c in scripts)


def test_status_warns_where_no_probes_are_wanted_and_sends_none(served: Fakes) -> None:
    report, commands = document(served, "status", "probes=off")
    assert any("probes = 'off'" in text for text in report["warnings"])
    assert not any(ASKING in c for scripts in commands.values() for c in scripts)

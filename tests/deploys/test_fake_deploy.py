"""All of deploy.py on @fake Sparks: which commands each node gets, and when none gets any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import IMAGE_ID, IMAGE_PIN, Fakes, Run, container

HEAD, WORKER = "@fake/spark-1", "@fake/spark-2"


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    return Fakes.of(tmp_path)


@pytest.fixture
def served(sparks: Fakes) -> Fakes:
    """Two Sparks that serve the default model already."""
    sparks.run_ranks()
    return sparks


def plain(command: str) -> str:
    """A docker command without its bound, and without what stands after the label; of others the
    first word, and the path at the end."""
    words = command.split(" --label ")[0].split()
    words = words[3:] if words[0] == "timeout" else words
    return " ".join(
        words if words[0] == "docker" or "docker" in command else words[:: len(words) - 1]
    )


def kept(rank: int) -> str:
    """Where a rank's compile caches are."""
    return f"/raid/hf-cache/spark-serving/compile/abababababab/sglang-{rank}"


def changes_of(run: Run, node: str) -> list[str]:
    """The changes on a node; a reading while waiting is not a change."""
    looks = ("printf 'node %s", "sh -c '[ -e")  # and that no token is left
    return [c for c in map(plain, run.changes.get(node, [])) if not c.startswith(looks)]


def refused(run: Run) -> list[str]:
    """The findings of the one message with which a run was refused."""
    assert run.code == 1, run.text
    assert run.changes == {}
    assert run.text.count("refused, nothing was changed:") == 1
    assert "Traceback" not in run.text
    lines = run.text.partition("refused, nothing was changed:")[2].splitlines()
    return [line.strip() for line in lines if line.strip()]


# ---- converged


def test_a_converged_run_changes_nothing(served: Fakes) -> None:
    run = served.deploy("--json")
    assert run.code == 0, run.text
    assert run.changes == {}
    totals = json.loads(run.out)["results"]["totals"]
    assert (totals["success"], totals["error"]) == (0, 0)
    assert "serving: openai/gpt-oss-120b on 2 node(s)" in run.err


def test_a_converged_run_takes_at_most_four_commands_a_node(served: Fakes) -> None:
    run = served.deploy()
    assert {node: len(scripts) for node, scripts in run.commands.items()} == {HEAD: 2, WORKER: 1}


def test_a_converged_run_loads_nothing_that_it_does_not_need(served: Fakes) -> None:
    words = (str(served.inventory()), "deploy.py", "-y")
    profile = served.pyinfra(*words, PYTHONPROFILEIMPORTTIME="1").err
    loaded = {line.rpartition("|")[2].strip() for line in profile.splitlines() if "|" in line}
    assert {"operations.switch", "control.converge"} <= loaded
    assert not loaded & {
        *(
            "operations.download",
            "operations.copy",
            "operations.copy",
            "cluster.transfer.tunnel",
        ),
        *(
            "cluster.engine.diagnosis",
            "cluster.engine.symptoms",
            "cluster.checks",
            "control.preflight",
        ),
    }


@pytest.mark.parametrize("nodes", [1, 8, 32])
def test_commands_a_node_do_not_grow_with_the_cluster(tmp_path: Path, nodes: int) -> None:
    sparks = Fakes.of(tmp_path, nodes)
    sparks.run_ranks(model="qwen72b")
    sparks.data, sparks.serves = {"model": "qwen72b"}, "Qwen/Qwen2.5-72B-Instruct"
    run = sparks.deploy()
    assert run.code == 0, run.text
    assert run.changes == {}
    counts = [len(scripts) for scripts in run.commands.values()]
    assert counts == [2] + [1] * (nodes - 1)


def test_prepare_reads_each_fact_once_per_node(sparks: Fakes) -> None:
    run = sparks.deploy("--dry", yes=False)
    assert run.code == 0, run.text
    for scripts in run.commands.values():
        assert len(scripts) == len(set(scripts)) <= 4


def test_a_dry_first_deploy_of_32_nodes_stays_linear(tmp_path: Path) -> None:
    sparks = Fakes.of(tmp_path, 32)
    for spark in sparks.sparks:
        spark.model = "Qwen/Qwen2.5-72B-Instruct"
    run = sparks.deploy("--dry", "--data", "model=qwen72b", yes=False)
    assert run.code == 0, run.text
    assert run.changes == {}
    assert [len(scripts) for scripts in run.commands.values()] == [4] + [3] * 31


# ---- a first deploy


def test_a_first_deploy_lists_the_commands_of_every_node(sparks: Fakes) -> None:
    run = sparks.deploy()
    assert run.code == 0, run.text
    for rank, (node, name) in enumerate(((HEAD, "sglang-head"), (WORKER, "sglang-worker-1"))):
        *changes, last = changes_of(run, node)
        assert changes == [
            f"sh {kept(rank)}",
            f"docker create --name {name}",
            f"docker start {name}",
            f"docker update --restart unless-stopped {name}",
        ]
        assert last.startswith(f"touch {kept(rank)}/served/")
    assert "every rank is healthy" in run.text
    assert "serving openai/gpt-oss-120b on 2 node(s)" in run.text


def test_the_created_containers_are_those_of_the_specs(sparks: Fakes) -> None:
    run = sparks.deploy()
    for node, spec in sparks.specs().items():
        (created,) = [c for c in run.commands[node] if " docker create " in c]
        assert f"--node-rank {spec.rank}" in created
        assert spec.launch.dist_init_addr == "192.168.100.10:50000"
        assert f"SGLANG_HOST_IP={spec.env['SGLANG_HOST_IP']}" in created


def test_dry_reports_the_plan_and_changes_nothing(sparks: Fakes) -> None:
    run = sparks.deploy("--dry", yes=False)
    assert run.code == 0, run.text
    assert run.changes == {}
    assert f"plan: {HEAD} sglang-head: is not there" in run.text
    assert f"plan: {WORKER} sglang-worker-1: is not there" in run.text


# ---- changes of what runs


def test_a_changed_setting_restarts_the_group_head_first(served: Fakes) -> None:
    run = served.deploy("--data", "mem_fraction=0.7")
    assert run.code == 0, run.text
    assert f"plan: {WORKER} sglang-worker-1: mem_fraction: 0.85 -> 0.7" in run.text
    for rank, (node, name) in enumerate(((HEAD, "sglang-head"), (WORKER, "sglang-worker-1"))):
        assert changes_of(run, node)[:-1] == [
            f"sh {kept(rank)}",
            f"docker rename {name} {name}.previous",
            f"docker update --restart no {name}.previous",
            f"docker stop -t 30 {name}.previous",
            f"docker create --name {name}",
            f"docker start {name}",
            f"docker update --restart unless-stopped {name}",
            f"docker rm --force {name}.previous",
        ]


def test_dry_reports_each_changed_field_per_node(served: Fakes) -> None:
    run = served.deploy("--dry", "--data", "mem_fraction=0.7", yes=False)
    assert run.changes == {}
    for node, name in ((HEAD, "sglang-head"), (WORKER, "sglang-worker-1")):
        assert f"plan: {node} {name}: mem_fraction: 0.85 -> 0.7" in run.text


def test_one_ended_rank_restarts_both_and_recreates_none(served: Fakes) -> None:
    spec = served.specs()[WORKER]
    served.sparks[1].container = container(spec.name, spec.dump(), status="exited", code=1)
    run = served.deploy()
    assert run.code == 0, run.text
    assert [c.split()[1] for c in changes_of(run, HEAD)] == [
        *("update", "stop", "start", "update"),
        f"{kept(0)}/served/ab03722a2e5aac44",
    ]
    assert [c.split()[1] for c in changes_of(run, WORKER)][:-1] == ["update", "start", "update"]


def test_a_restart_policy_changed_by_hand_is_set_without_a_restart(served: Fakes) -> None:
    spec = served.specs()[WORKER]
    served.sparks[1].container = container(spec.name, spec.dump(), policy="no")
    run = served.deploy()
    assert run.code == 0, run.text
    assert "docker update --restart unless-stopped sglang-worker-1" in changes_of(run, WORKER)
    assert not [
        c for c in changes_of(run, HEAD) + changes_of(run, WORKER) if c.split()[1] in ("stop", "rm")
    ]


def test_a_converged_group_that_serves_another_model_restarts(served: Fakes) -> None:
    """The specs are right, yet something else answers: it is never taken for ready."""
    served.serves = "somebody/else"
    run = served.deploy("--dry", yes=False)
    assert "serves somebody/else, expected openai/gpt-oss-120b" in run.text
    assert "plan:" in run.text


def test_head_only_takes_the_worker_away(served: Fakes) -> None:
    run = served.deploy("--data", "head_only=true", "--data", "model=gpt-oss-20b", "--dry",
                        yes=False)  # fmt: skip
    assert f"plan: {WORKER} sglang-worker-1: is no longer part of the group" in run.text
    assert run.changes == {}


@pytest.mark.parametrize(
    ("state", "verbs"), [("stopped", ["update", "stop"]), ("absent", ["update", "stop", "rm"])]
)
def test_stopping_or_removing_a_group(served: Fakes, state: str, verbs: list[str]) -> None:
    run = served.deploy("--data", f"state={state}")
    assert run.code == 0, run.text
    for node in (HEAD, WORKER):
        assert [c.split()[1] for c in changes_of(run, node)] == verbs
        assert len(run.readings[node]) == 1


def test_stopping_nothing_is_one_command_a_node(sparks: Fakes) -> None:
    run = sparks.deploy("--data", "state=stopped")
    assert run.code == 0, run.text
    assert {node: len(scripts) for node, scripts in run.commands.items()} == {HEAD: 1, WORKER: 1}


# ---- faults in the middle


def test_a_failed_create_ends_the_run_before_anything_starts(sparks: Fakes) -> None:
    sparks.sparks[1].answers[" docker create "] = {"success": False, "stderr": "no space left"}
    run = sparks.deploy()
    assert run.code == 1
    assert not [c for node in (HEAD, WORKER) for c in changes_of(run, node) if " start " in c]
    assert "Traceback" not in run.text


def test_a_worker_that_does_not_start_fails_the_run_and_stops_the_head(
    sparks: Fakes,
) -> None:
    sparks.sparks[1].answers["docker start"] = {
        "success": False,
        "stderr": 'could not select device driver "" with capabilities: [[gpu]]',
    }
    run = sparks.deploy()
    assert run.code == 1
    assert "sglang-worker-1 could not be started" in run.text
    assert "docker stop -t 30 sglang-head" in changes_of(run, HEAD)
    assert not any("unless-stopped" in c for c in changes_of(run, HEAD))
    assert "Traceback" not in run.text


def test_a_worker_that_exits_while_the_head_waits_fails_the_deploy(sparks: Fakes) -> None:
    ended = container("sglang-worker-1", "{}", status="exited", code=137, policy="no")
    lines = [f"node {WORKER}", "name sglang-worker-1", json.dumps(ended), "asked", "health 000 0"]
    sparks.sparks[1].answers["printf 'node %s"] = lines
    run = sparks.deploy()
    assert run.code == 1
    assert "sglang-worker-1 has ended: exited with exit code 137" in run.text
    assert "killed for memory" not in run.text
    assert "docker stop -t 30 sglang-head" in changes_of(run, HEAD)


def test_a_daemon_that_dies_during_the_wait_is_reported(sparks: Fakes) -> None:
    """The reading's lines stop short: no traceback, and no rank counts as missing."""
    lines = [f"node {WORKER}", "name sglang-worker-1", "health 000 0"]
    sparks.sparks[1].answers["printf 'node %s"] = lines
    run = sparks.deploy("--data", "ready_timeout=2")
    assert run.code == 1
    assert "the rank is gone" not in run.text
    assert "Traceback" not in run.text


# ---- refusals: one clear message, and nothing beyond the readings

SETTINGS: list[Any] = [
    pytest.param("modle=x", "modle is not a setting; did you mean model", id="unknown-setting"),
    pytest.param("port=0", "port = 0 is not allowed: it must be an integer from 1", id="range"),
    pytest.param("mem_fraction=90", "mem_fraction = 90 is not allowed", id="percent"),
    pytest.param("head_only=maybe", "head_only = 'maybe' is not allowed: it must be true", id="b"),
    pytest.param("model=gpt-os-120b", "model = 'gpt-os-120b' is not a model", id="unknown-model"),
    pytest.param("model=99", "model = 99 is not a model: numbers are 1 to", id="unknown-number"),
    pytest.param('env={"HF_TOKEN": "hf_sesame"}', "env must not hold HF_TOKEN", id="token-in-env"),
    pytest.param("extra_args=it's", 'extra_args = "it\'s" is not allowed', id="open-quote"),
]


@pytest.mark.parametrize(("data", "says"), SETTINGS)
def test_a_setting_is_refused_before_any_node_is_read(sparks: Fakes, data: str, says: str) -> None:
    run = sparks.deploy("--data", data)
    (line,) = refused(run)
    assert line.startswith(says)
    assert " -> " in line
    assert "sesame" not in line
    assert run.commands == {HEAD: [], WORKER: []}


GROUPS: list[Any] = [
    pytest.param({"head": [HEAD, WORKER]}, "the group `head` has 2 hosts", id="two-heads"),
    pytest.param({"workers": [HEAD, WORKER]}, "the group `head` has no host", id="no-head"),
    pytest.param({"head": [HEAD], "workers": [HEAD, WORKER]}, f"{HEAD} is in both", id="both"),
    pytest.param({"head": [HEAD], "spare": [WORKER]}, f"{WORKER} is in neither", id="neither"),
]


@pytest.mark.parametrize(("groups", "says"), GROUPS)
def test_groups_are_refused_before_any_node_is_read(
    sparks: Fakes, groups: dict[str, list[str]], says: str
) -> None:
    sparks.groups = groups
    run = sparks.deploy()
    (line,) = refused(run)
    assert line.startswith(says)
    assert run.commands == {HEAD: [], WORKER: []}


def test_a_limit_that_splits_the_group(sparks: Fakes) -> None:
    run = sparks.deploy("--limit", WORKER)
    (line,) = refused(run)
    assert line.startswith(f"--limit leaves out {HEAD} of the group")


def test_check_reports_that_no_port_is_up(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.up = False
    lines = refused(sparks.deploy())
    assert [line.partition(": ")[0] for line in lines] == [HEAD, WORKER]


def test_an_mtu_that_differs(sparks: Fakes) -> None:
    sparks.sparks[1].mtu = 1500
    assert any("mtu" in line.lower() for line in refused(sparks.deploy()))


DECISIONS: list[Any] = [
    pytest.param(["tensor_parallel=3"], "does not divide over 2 nodes", id="tp"),
    pytest.param(
        ["model=qwen7b", "tensor_parallel=8"],
        "qwen7b has 28 attention heads, which do not divide over tensor_parallel 8",
        id="heads",
    ),
    pytest.param(
        ["model=phi4", "tensor_parallel=4"],
        "phi4 has 10 KV heads, which do not divide over tensor_parallel 4",
        id="kv-heads",
    ),
    pytest.param(
        ["tool_call_parser=deepseek"], "has no --tool-call-parser 'deepseek'", id="parser"
    ),
    pytest.param(["extra_args=--tp 4"], "extra_args must not hold --tp: the setting", id="option"),
    pytest.param(["port=50000"], "port and dist_port are both 50000", id="one-port"),
    pytest.param(
        ["model=qwen7b", "context_length=99999"],
        "context_length = 99999 is more than qwen7b has (32768",
        id="context",
    ),
]


@pytest.mark.parametrize(("data", "says"), DECISIONS)
def test_a_decision_over_settings_and_readings_is_refused(
    sparks: Fakes, data: list[str], says: str
) -> None:
    lines = refused(sparks.deploy(*(word for setting in data for word in ("--data", setting))))
    assert any(says in line for line in lines), lines


def test_a_port_that_somebody_else_holds(sparks: Fakes) -> None:
    sparks.sparks[0].listeners = (
        'LISTEN 0 511 0.0.0.0:30000 0.0.0.0:* users:(("nginx",pid=77,fd=6))',
    )
    lines = refused(sparks.deploy())
    assert any("30000" in line and "nginx" in line for line in lines)


def test_a_container_under_our_name_that_is_not_ours(sparks: Fakes) -> None:
    sparks.sparks[0].container = container("sglang-head", "")
    (line,) = refused(sparks.deploy())
    assert "a container named sglang-head exists and is not ours" in line


def test_a_daemon_that_is_not_running(sparks: Fakes) -> None:
    down = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    for name in ("ranks", "image"):
        sparks.sparks[1].sections[name] = (1, [down])
    words = f"{down} Is the docker daemon running?"
    sparks.sparks[1].sections["engine"] = (0, [words, "docker info: exit status 1"])
    assert refused(sparks.deploy()) == [
        f"{WORKER}: the Docker daemon is not running -> sudo systemctl enable --now docker"
    ]


def test_stopping_a_group_needs_every_daemon_to_answer(served: Fakes) -> None:
    served.sparks[1].sections["ranks"] = (1, ["Is the docker daemon running?"])
    (line,) = refused(served.deploy("--data", "state=stopped"))
    assert line.startswith(f"{WORKER}: its ranks could not be read")


def test_head_only_where_an_idle_node_does_not_answer(served: Fakes) -> None:
    """Its old rank may still run: that is never taken for nothing there."""
    served.sparks[1].sections["ranks"] = (1, ["Is the docker daemon running?"])
    lines = refused(served.deploy("--data", "head_only=true"))
    assert any(line.startswith(f"{WORKER}: its ranks could not be read") for line in lines)


def test_a_gated_model_without_a_token(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.model, spark.weights = "meta-llama/Llama-3.1-8B-Instruct", False
    (line,) = refused(sparks.deploy("--data", "model=llama8b"))
    assert "is gated" in line
    assert line.startswith(f"{HEAD}: ")


def test_doctor_reports_a_token_file_that_others_can_read(sparks: Fakes, tmp_path: Path) -> None:
    for spark in sparks.sparks:
        spark.weights = False
    token = tmp_path / "token"
    token.write_text("hf_sesame")
    token.chmod(0o644)
    (line,) = refused(sparks.deploy("--data", f"hf_token_file={token}"))
    assert "can be read by others" in line


def test_weights_whose_check_cannot_be_recorded_are_served(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.unrecorded = "[Errno 30] Read-only file system: '/x'"
    run = sparks.deploy()
    assert run.code == 0, run.text
    for node in (HEAD, WORKER):
        (line,) = [ln for ln in run.text.splitlines() if "Errno 30" in ln and node in ln]
        assert "could not be recorded" in line


def test_an_image_that_may_not_be_pulled(sparks: Fakes) -> None:
    for spark in sparks.sparks:
        spark.image = False
    lines = refused(sparks.deploy("--data", "pull=never"))
    assert any("pull = 'never'" in line for line in lines)


def test_a_flag_that_this_sglang_does_not_have(sparks: Fakes) -> None:
    lines = refused(sparks.deploy("--data", "extra_args=--no-such-flag"))
    assert any("--no-such-flag" in line for line in lines)


def test_every_refusal_of_all_nodes_comes_at_once(sparks: Fakes) -> None:
    sparks.sparks[0].listeners = ("LISTEN 0 511 0.0.0.0:30000 0.0.0.0:*",)
    sparks.sparks[1].sections["disk /raid/hf-cache"] = (
        0,
        ["/raid/hf-cache", "no no", "Filesystem", "/dev/x 3905011724 1 2905011724 1% /"],
    )
    lines = refused(sparks.deploy("--data", "tensor_parallel=3"))
    assert {line.partition(": ")[0] for line in lines} >= {HEAD, WORKER}
    assert len(lines) >= 3


# ---- secrets


def test_the_token_is_in_no_command_and_no_output(sparks: Fakes, tmp_path: Path) -> None:
    sparks.sparks[0].weights = False
    token = tmp_path / "token"
    token.write_text("hf_sesame")
    token.chmod(0o600)
    run = sparks.deploy("--data", f"hf_token_file={token}", "-vvv", "--debug")
    assert run.code == 0, run.text
    started = [n for n, c in enumerate(run.commands[HEAD]) if "docker run --detach" in c]
    gone = [n for n, c in enumerate(run.commands[HEAD]) if c.endswith(" hf_token")]
    assert len(started) == 2, "the list, and the files"
    assert gone[0] < started[0], "what an earlier run may have left"
    assert all(any(n > start for n in gone) for start in started)
    assert not [c for c in run.commands[WORKER] if "/run/spark-serving" in c]
    assert "sesame" not in run.text + json.dumps(run.commands)


def test_workers_pull_only_where_they_must(sparks: Fakes) -> None:
    """The readings of these fakes stay as they are: after the pull the image is not there yet."""
    sparks.sparks[1].image = False
    run = sparks.deploy()
    pulls = {
        node: [c for c in changes_of(run, node) if "docker pull" in c] for node in run.commands
    }
    assert pulls[HEAD] == []
    assert len(pulls[WORKER]) == 1
    assert pulls[WORKER][0].endswith(f" sh {IMAGE_PIN} lmsysorg/sglang:spark")
    assert run.code == 1
    assert f"{WORKER}: image lmsysorg/sglang:spark is not there" in run.text


def test_a_failed_pull_ends_the_run_before_anything_stops(served: Fakes) -> None:
    worker = served.sparks[1]
    worker.image = False
    worker.answers["docker pull"] = {"success": False, "stderr": "Error: manifest unknown"}
    run = served.deploy("--data", "mem_fraction=0.7")
    assert run.code == 1
    assert not [c for node in (HEAD, WORKER) for c in changes_of(run, node) if " stop " in c]
    assert f"[{WORKER}] not from the registry: " in run.text
    assert "cannot open the tunnel that other nodes copy files through" in run.text
    assert IMAGE_ID not in run.text


# ---- compile caches


def test_a_folder_for_compile_caches_that_can_not_be_written_is_refused(sparks: Fakes) -> None:
    sparks.sparks[1].sections["served"] = (1, ["/kept is not writable"])
    run = sparks.deploy("--data", "cache_dir=/kept")
    assert run.code == 1
    assert f"{WORKER}: cache_dir /kept can't be used: /kept is not writable -> " in run.text
    assert run.changes == {}


def test_without_a_folder_to_write_to_what_is_compiled_is_not_kept(sparks: Fakes) -> None:
    """A cache that another owner filled serves on: only the choice of `auto` gives way."""
    words = "/raid/hf-cache is not writable"
    sparks.sparks[1].sections["served"] = (1, [words])
    run = sparks.deploy()
    assert run.code == 0, run.text
    assert f"{WORKER}: what the engine compiles is not kept: {words} -> " in run.text
    created = {
        node: next(c for c in commands if "docker create" in c)
        for node, commands in run.commands.items()
    }
    assert ["/kernels:" in created[spark.name] for spark in sparks.sparks] == [True, False]

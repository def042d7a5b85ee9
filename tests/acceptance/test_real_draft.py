"""Real SGLang with a draft model: brought from a hub, loaded by both ranks, and changing no token.

The target runs in float32: equal logits are frequent in bfloat16 with random weights, and verifying
four tokens at once rounds them otherwise than decoding one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import CPU, INSTALLED, SETTINGS, START_SECONDS
from deploying import HEAD, WORKER, Deploy, lives, states
from local_hub import Hub
from sparks import Cluster

TARGET, DRAFT = "own/target", "own/draft"
STEPS = "num_steps = 3\neagle_topk = 1\nnum_draft_tokens = 4"
ENTRY = f"""
id = "{TARGET}"
alias = "target"
weight_bytes = 2_000_000

[image]
reference = "lmsysorg/sglang:v0.5.23"
publisher = "SGLang's project"

[[drafts]]
id = "{DRAFT}"
weight_bytes = 1_000_000
"""
VARIANT = """
[[variants]]
name = "{name}"
evidence = "derived"
"""
SPECULATION = """
[variants.speculation]
algorithm = "{algorithm}"
draft = "{draft}"
{steps}
"""
SPECULATING = {
    "eagle": ("EAGLE", DRAFT, STEPS),
    # The target drafts for itself, so that drafts are accepted.
    "itself": ("STANDALONE", TARGET, STEPS),
    "dflash": ("DFLASH", DRAFT, "num_draft_tokens = 4"),
}
# The one attention backend with which 0.5.23 speculates on CPUs. By its own name it falls back to
# torch_native where the CPU has no AMX; by those of its halves it does not.
ATTENTION = ("--prefill-attention-backend", "intel_amx", "--decode-attention-backend", "intel_amx")
ARGUMENTS = [
    *("--device", "cpu", "--dtype", "float32", *ATTENTION, "--sampling-backend", "pytorch"),
    *CPU[CPU.index("--max-total-tokens") :],
]
PROMPT = "from os import path, and then return the names of all files in it"
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3 * START_SECONDS)]


@pytest.fixture(scope="module")
def hub(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with cluster.hub(tmp_path_factory.mktemp("drafts")) as hub:
        for repo, folder in ((TARGET, "model"), (DRAFT, "draft")):
            files = (INSTALLED / folder).iterdir()
            hub.add(repo, {file.name: file.read_bytes() for file in files})
        yield hub


@pytest.fixture(scope="module")
def drafting(
    cluster: Cluster, hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deploy]:
    """Both nodes, the model of an owner's entry with its draft on the hub, and nothing on them."""
    folder = tmp_path_factory.mktemp("drafting")
    (folder / "catalog").mkdir()
    variants = [VARIANT.format(name="plain")]
    for name, (algorithm, draft, steps) in SPECULATING.items():
        variants += [
            VARIANT.format(name=name),
            SPECULATION.format(algorithm=algorithm, draft=draft, steps=steps),
        ]
    (folder / "catalog/target.toml").write_text("".join((ENTRY, *variants)))
    data = {**SETTINGS, "model": "target", "served_model_name": TARGET, "extra_args": ARGUMENTS}
    # Dynamo would compile two functions of the draft's, and there is no compiler.
    data["env"] = {**SETTINGS["env"], "TORCHDYNAMO_DISABLE": "1"}  # type: ignore[dict-item]
    deployment = Deploy(cluster, cluster.inventory(folder, hf_endpoint=hub.url, **data))
    yield deployment
    deployment.succeeds(state="absent", variant="plain")


def test_a_draft_changes_no_token(drafting: Deploy, hub: Hub) -> None:
    cluster = drafting.cluster
    output = drafting.succeeds(variant="eagle", timeout=START_SECONDS)
    assert "draft: " in output, output
    for node, name in ((1, HEAD), (2, WORKER)):
        log = cluster.node(node).logs(name)
        loaded = re.findall(rf" TP{node - 1}\] Load weight end.* type=(\w+)", log)
        assert loaded == ["Qwen2ForCausalLM", "Qwen2ForCausalLMEagle"], log[-3000:]
    info = cluster.http("/server_info", timeout=30).json
    assert info["speculative_algorithm"] == "EAGLE"
    assert (info["tp_size"], info["nnodes"]) == (2, 2)
    eagle = generated(cluster)
    # Random weights propose what nobody would say; the first token needs no verification.
    assert eagle["meta_info"]["spec_num_proposed_drafts"] > 200
    assert 1 <= eagle["meta_info"]["spec_accept_length"] < 1.2
    hub.forget()
    drafting.unchanged(variant="eagle")
    assert hub.log == []

    drafting.succeeds(variant="itself", timeout=START_SECONDS)
    itself = generated(cluster)
    assert itself["meta_info"]["spec_accept_length"] > 1.5
    assert itself["output_ids"] == eagle["output_ids"]

    drafting.succeeds(variant="eagle", draft="none", timeout=START_SECONDS)
    plain = generated(cluster)
    assert "spec_accept_length" not in plain["meta_info"]
    assert plain["output_ids"] == eagle["output_ids"]


def test_what_sglang_can_not_draft_on_this_device_leaves_the_group_before(drafting: Deploy) -> None:
    """Half of the catalog's drafts are DFLASH and DSPARK, which 0.5.23 has on no CPU."""
    drafting.succeeds(variant="plain", timeout=START_SECONDS)
    before = lives(drafting.cluster)
    output = drafting.fails(variant="dflash", timeout=2 * START_SECONDS)
    assert re.search(r"DFLASH speculative decoding is not supported by \w+ on device 'cpu'", output)
    assert f"{TARGET} serves again, as before this run" in output
    assert states(drafting.cluster)[HEAD] == "running"
    drafting.succeeds(variant="plain")
    assert [id for id, _ in lives(drafting.cluster)] == [id for id, _ in before]


def generated(cluster: Cluster) -> dict[str, Any]:
    """80 tokens at temperature 0; SGLang's own endpoint says how many were drafted."""
    greedy = {"temperature": 0, "max_new_tokens": 80, "ignore_eos": True}
    answer = cluster.http("/generate", {"text": PROMPT, "sampling_params": greedy}, timeout=120)
    assert answer.status == 200, answer.body
    reply: dict[str, Any] = answer.json
    return reply

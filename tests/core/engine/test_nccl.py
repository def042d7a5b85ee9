"""The NCCL that a log names, and what it means for a group."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from samples import specs_of, want

from cluster.catalog.models import find_model
from cluster.engine.argv import Launch
from cluster.engine.nccl import (
    RELEASE,
    Collectives,
    collectives_of,
    graphs_on,
    loaded_nccl,
    newer_nccl,
    stated_nccl,
)
from cluster.findings import Level

# Of SGLang 0.5.11 on two H100 cards: rank 0 and rank 1, with NCCL_DEBUG=INFO.
SGLANG = "[2026-11-26 20:05:30 TP0] sglang is using nccl==2.28.9"
INFO = "spark-02:4820:4820 [0] NCCL INFO NCCL version 2.28.9+cuda13.0"
PAIR = Collectives(nodes=2, graphs=True, cure="--data variant=release")


@pytest.mark.parametrize(
    ("lines", "versions"),
    [
        pytest.param([SGLANG, INFO], ("2.28.9",), id="rank 0"),
        pytest.param([INFO], ("2.28.9",), id="rank 1"),
        pytest.param(["NCCL version 2.30.7+cuda13.2"], ("2.30.7",), id="NCCL_DEBUG=VERSION"),
        pytest.param(
            [SGLANG.replace("2.28.9", "2.28.3"), INFO.replace("2.28.9", "2.29.7")],
            ("2.28.3", "2.29.7"),
            id="two libraries",
        ),
        pytest.param([INFO.replace("2.28.9", "2.9.10"), INFO], ("2.9.10", "2.28.9"), id="numbers"),
        pytest.param(["the user said: NCCL version 2.28.9"], (), id="a prompt"),
        pytest.param(["sglang is using nccl==99999.1.1"], (), id="no version"),
        pytest.param([], (), id="nothing"),
    ],
)
def test_the_versions_that_a_log_names(lines: list[str], versions: tuple[str, ...]) -> None:
    assert loaded_nccl(lines) == versions


@pytest.mark.parametrize(
    ("graphs", "version", "told"),
    [
        (True, "2.28.9", (Level.ERROR, "NCCL 2.28.9 hangs over several nodes with CUDA graphs")),
        (True, "2.28.3", (Level.ERROR, "NCCL 2.28.3 hangs")),
        (False, "2.28.9", (Level.WARNING, "has hung over several nodes without CUDA graphs too")),
        (True, "2.27.7", (Level.WARNING, "CUDA graphs are on, and over several nodes")),
        (False, "2.27.7", (Level.WARNING, "leave CUDA graphs off")),
        (True, "2.29.6", (Level.WARNING, "known to work from 2.29.7 on")),
        (True, "2.29.7", None),
        (False, "2.29.7", None),
        (True, "2.30.4", None),
        (True, "3.0.0", None),
    ],
)
def test_what_a_version_means_over_two_nodes(
    graphs: bool, version: str, told: tuple[Level, str] | None
) -> None:
    found = replace(PAIR, graphs=graphs).findings({"a": (version,), "b": (version,)})
    if told is None:
        assert found == ()
        return
    (finding,) = found
    assert finding.level is told[0]
    assert told[1] in finding.what
    assert finding.cure == "--data variant=release"


def test_one_node_and_an_unknown_version_are_not_judged() -> None:
    assert replace(PAIR, nodes=1).findings({"a": ("2.28.9",)}) == ()
    assert PAIR.findings({"a": (), "b": ()}) == ()


def test_one_rank_whose_log_names_it_is_enough() -> None:
    (finding,) = PAIR.findings({"a": ("2.28.9",), "b": ()})
    assert finding.level is Level.ERROR


def test_the_older_of_two_libraries_counts() -> None:
    (finding,) = PAIR.findings({"a": ("2.28.3", "2.29.7"), "b": ("2.29.7",)})
    assert "NCCL 2.28.3" in finding.what


def test_ranks_with_different_versions_are_named() -> None:
    different, hangs = PAIR.findings({"a": ("2.29.7",), "b": ("2.28.9",), "c": ()})
    assert different.level is Level.ERROR
    assert different.what == "the ranks loaded different NCCLs: a 2.29.7, b 2.28.9"
    assert hangs.key == "nccl-hangs"


def test_an_image_that_holds_a_newer_library_gets_it_preloaded() -> None:
    both = replace(PAIR, stated="2.29.7", image="lmsysorg/sglang:dev-qwen38-next-local")
    (finding,) = both.findings({"a": ("2.28.3",)})
    assert "LD_PRELOAD" in finding.cure
    assert "dev-qwen38-next-local" in finding.cure


@pytest.mark.parametrize(
    ("changes", "on"),
    [
        ({}, True),
        ({"disable_cuda_graph": True}, False),
        ({"extra_args": ("--disable-cuda-graph",)}, False),
        ({"model_args": ("--disable-decode-cuda-graph",)}, False),
        ({"extra_args": ("--disable-prefill-cuda-graph",)}, True),
        ({"extra_args": ("--cuda-graph-backend-decode", "disabled")}, False),
        ({"extra_args": ("--cuda-graph-backend-decode=disabled",)}, False),
        (
            {"disable_cuda_graph": True, "extra_args": ("--cuda-graph-backend-decode", "full")},
            True,
        ),
    ],
)
def test_whether_a_launch_line_captures_graphs(changes: dict[str, Any], on: bool) -> None:
    assert graphs_on(Launch(model_path="m", **changes)) is on


def versions_of(nodes: int = 2, **data: Any) -> Collectives:
    declaration = want(nodes, **data)
    model = find_model(declaration.common.model)
    return collectives_of(specs_of(nodes, **data), declaration, model)


def test_the_cure_is_the_models_own_variant_or_a_release() -> None:
    for model, cure in (("qwen7b", "variant=release"), ("llama8b", f"image={RELEASE}")):
        assert cure in versions_of(model=model).cure


def test_a_declared_image_is_not_cured_by_a_variant() -> None:
    declaration = want(2, model="qwen7b")
    catalog = replace(declaration.catalog, image=None, sources={"image": "inventory"})
    declared = replace(declaration, catalog=catalog)
    assert RELEASE in newer_nccl(declared, find_model("qwen7b"))


def test_what_a_group_is_judged_by() -> None:
    plain = versions_of(model="qwen7b")
    assert (plain.nodes, plain.graphs, plain.host_ipc, plain.nvls) == (2, False, False, False)
    odd = versions_of(
        model="qwen7b",
        disable_cuda_graph=False,
        ipc="host",
        extra_args=["--enable-nccl-nvls"],
    )
    assert (odd.graphs, odd.host_ipc, odd.nvls) == (True, True, True)


def test_the_causes_of_a_hang_are_those_that_were_read() -> None:
    good = {"a": ("2.29.7",), "b": ("2.29.7",)}
    assert PAIR.hang_causes(good) == ()
    assert "names no NCCL" in PAIR.hang_causes({"a": (), "b": ()})[0]
    assert "NCCL 2.28.9 hangs" in PAIR.hang_causes({"a": ("2.28.9",)})[0]
    ipc, nvls = replace(PAIR, host_ipc=True, nvls=True, experts=256).hang_causes(good)
    assert "ipc=private" in ipc
    assert "256 experts" in nvls
    assert "NCCL_NVLS_ENABLE=0" in nvls
    assert replace(PAIR, nodes=1).hang_causes({"a": ()}) == ()


def test_an_entry_may_say_which_of_two_libraries_loads() -> None:
    model = find_model("qwen38-flash-next")
    assert stated_nccl(model.image) == "2.29.7"
    assert stated_nccl(None) == ""

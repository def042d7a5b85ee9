"""What serves, by the project's listing: its variant, its nodes, and what the user says of them."""

from __future__ import annotations

from typing import cast

import httpx
import pytest
from spark_bench.client.recorder import Recorder
from spark_bench.client.target import target
from spark_bench.errors import BadInput
from spark_bench.options import PublishedOptions
from spark_bench.project import ProjectListing, ProjectModel, ProjectRank
from spark_bench.run.published_loads import choose_published, plan_lines
from spark_bench.run.reach import ReachedServer

LING, URL = "inclusionAI/Ling-3.0-flash-fp4", "http://127.0.0.1:9"


def served(variant: str, default: str = "") -> ReachedServer:
    """A server of which only the project knows anything."""
    rank = ProjectRank(
        node="spark-1",
        rank=0,
        name="main-0",
        runtime="docker",
        model=LING,
        image="lmsysorg/sglang:dev-Ling-3.0-flash",
        image_id="sha256:12",
        sglang="0.5.23",
        spec="ab",
        launch={"tp": 1, "pp": 1, "nnodes": 1},
        started_at="2026-11-23T12:00:00Z",
        variant=variant,
    )
    listing = ProjectListing(
        version=1,
        light=False,
        url=URL,
        runs=True,
        served_model_name="ling",
        model=LING,
        group="main",
        state="present",
        ranks=(rank,),
        catalogue=(ProjectModel(id=LING, default_variant=default),),
    )
    silent = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(404)))
    return ReachedServer(URL, cast(Recorder, target(URL)), silent, listing, "ling")


def test_the_projects_variant_and_nodes_choose_the_figures() -> None:
    chosen = choose_published(PublishedOptions(), served("high-throughput"))
    assert [(one.streams, one.tpot_ms) for one in chosen.figures] == [(1, 25.76), (16, 106.51)]
    first = next(plan_lines(chosen))
    assert first.startswith(
        "as published: 8 prompts, 8192/1024 tokens, 1 in flight, cache flushed before them: "
        "mean TPOT 25.76 ms, mean TTFT 2,068.91 ms, input + output per GPU 324 tok/s: "
        f"{LING} (high-throughput) in MXFP4, "
    )
    fast = choose_published(PublishedOptions(streams=(16,)), served("low-latency"))
    assert [one.tpot_ms for one in fast.figures] == [38.09]


@pytest.mark.parametrize(
    "options, error",
    [
        (
            PublishedOptions(variant="low-latency"),
            "--variant low-latency: the project has deployed high-throughput: leave the option out",
        ),
        (
            PublishedOptions(nodes=2),
            "--nodes 2: the project has deployed 1: leave the option out",
        ),
        (
            PublishedOptions(weights="openbmb/MiniCPM5-2B"),
            f"--weights openbmb/MiniCPM5-2B: the project has deployed {LING}: leave the option out",
        ),
    ],
)
def test_what_contradicts_the_project_is_refused(options: PublishedOptions, error: str) -> None:
    with pytest.raises(BadInput, match="leave the option out") as refused:
        choose_published(options, served("high-throughput"))
    assert refused.value.message == error


def test_a_rank_without_a_variant_serves_the_models_default() -> None:
    chosen = choose_published(PublishedOptions(), served("", default="low-latency"))
    assert [one.tpot_ms for one in chosen.figures] == [9.48, 38.09]


def test_an_earlier_project_names_no_variant() -> None:
    with pytest.raises(BadInput, match="give --variant, one of 'low-latency', 'high-throughput'"):
        choose_published(PublishedOptions(), served(""))
    options = PublishedOptions(variant="low-latency")
    assert choose_published(options, served("")).figures

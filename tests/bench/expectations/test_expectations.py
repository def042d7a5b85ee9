"""A result beside the decode roofline and beside what others have published."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace
from result_samples import a_result
from spark_bench.display.tables import result_tables
from spark_bench.display.terminal import print_all
from spark_bench.expectations import Expectation, expectation_lines, judge_result
from spark_bench.expectations.published import FIGURES, load_published
from spark_bench.expectations.setting import (
    ModelShape,
    ServedShape,
    experts_read,
    kv_bytes,
    model_shapes,
    setting_of,
    tokens_per_second,
    weight_bytes,
)
from spark_bench.metrics.figures import Summary
from spark_bench.results.provenance_schema import DeployedGroup
from spark_bench.results.schema import Result

OSS, QWEN7B = "openai/gpt-oss-120b", "Qwen/Qwen2.5-7B-Instruct"
LLAMA8B, LLAMA70B = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
MIXTRAL, DEEPSEEK = "mistralai/Mixtral-8x7B-Instruct-v0.1", "deepseek-ai/DeepSeek-V2-Lite-Chat"


def shape(id: str) -> ModelShape:
    return model_shapes()[id.lower()]


def run(
    itl_ms: float | None,
    streams: int = 1,
    *,
    model: str = QWEN7B,
    tp: int = 1,
    nodes: int | None = None,
    settings: dict[str, Any] | None = None,
    **summary: Any,
) -> Result:
    """Ten answers of 128 tokens to prompts of 128, in so many streams of that mean ITL."""
    result = a_result()
    provenance, deployment = result.provenance, result.provenance.deployment
    assert deployment
    ranks = [replace(deployment.ranks[0], rank=rank) for rank in range(nodes or tp)]
    whole = {
        "completed": 10,
        "failed": 0,
        "total_input_tokens": 1280,
        "total_output_tokens": 1280,
        "mean_itl_ms": itl_ms,
        "median_itl_ms": itl_ms,
        "concurrency": float(streams),
        "peak_concurrency": streams,
        # Long enough for all of them.
        "duration": 10 * 128 * (itl_ms or 1.0) / 1e3 / streams,
    }
    return replace(
        result,
        config=replace(result.config, model=model),
        summary=replace(Summary(), **whole | summary),
        provenance=replace(
            provenance,
            server=replace(
                provenance.server, model=model, settings={"tp_size": tp} | (settings or {})
            ),
            deployment=replace(deployment, model=model, ranks=tuple(ranks), launch={}),
        ),
    )


def deployed(result: Result, deployment: DeployedGroup | None) -> Result:
    return replace(result, provenance=replace(result.provenance, deployment=deployment))


def roofline(result: Result) -> Expectation:
    first = judge_result(result)[0]
    assert first.about == "roofline"
    return first


@pytest.mark.parametrize(
    "id, parameters",
    [
        # Total less the input's table, by each config.json: vocabulary x hidden size.
        pytest.param(QWEN7B, 7_615_616_512 - 152_064 * 3584, id="qwen7b"),
        pytest.param(LLAMA8B, 8_030_261_248 - 128_256 * 4096, id="llama8b"),
        pytest.param(LLAMA70B, 70_553_706_496 - 128_256 * 8192, id="llama70b"),
        pytest.param("google/gemma-2-27b-it", 27_227_128_320, id="gemma-is-tied"),
        # Active: 12.88 B by the model card's count, less the input's table.
        pytest.param(MIXTRAL, 12_879_925_248 - 32_000 * 4096, id="mixtral"),
        # 27 x attention 13,763,072 (norms in it), 26 x (8 experts of 8,650,752 + router 131,072),
        # a dense layer of 67,239,936 and the output's table: close to the card's 2.4 B.
        pytest.param(DEEPSEEK, 2_451_435_008, id="deepseek"),
    ],
)
def test_the_bytes_of_one_token_in_bf16(id: str, parameters: int) -> None:
    assert weight_bytes(ServedShape(shape=shape(id))) == 2 * parameters


def test_the_bytes_of_a_gpt_oss_token_match_its_matrices() -> None:
    experts = 36 * 4 * 3 * 2880 * 2880 * 17 // 32
    # Biases, attention with its sinks and norms, routers, the last norm, the output's table.
    attention = 2880 * 5120 + 5120 + 4096 * 2880 + 2880 + 64 + 2 * 2880
    rest = 36 * (4 * 8640 + attention + 128 * 2881) + 2880 + 201_088 * 2880
    assert weight_bytes(ServedShape(shape=shape(OSS))) == experts + 2 * rest


@pytest.mark.parametrize(
    "id, tp, context, speed",
    [
        # 273e9 / 14,141,238,272 bytes, and half of them a node.
        pytest.param(QWEN7B, 1, 0, 19.305, id="7b"),
        pytest.param(QWEN7B, 2, 0, 38.610, id="7b-on-two"),
        pytest.param(LLAMA70B, 2, 0, 3.928, id="70b-on-two"),
        pytest.param(MIXTRAL, 1, 0, 10.707, id="mixture"),
        pytest.param(OSS, 1, 0, 54.568, id="mxfp4"),
        # 32 layers x 2 x 8 heads x 128 x 2 bytes = 131,072 bytes a token of context.
        pytest.param(LLAMA8B, 1, 8000, 17.0006, id="with-its-cache"),
    ],
)
def test_the_roofline_of_one_stream(id: str, tp: int, context: float, speed: float) -> None:
    reading = ServedShape(shape=shape(id), tp=tp)
    assert tokens_per_second(reading, context) == pytest.approx(speed, rel=1e-4)


@pytest.mark.parametrize(
    "id, tp, context, width, bytes_read",
    [
        pytest.param(LLAMA8B, 1, 1000, 2, 131_072_000, id="whole"),
        pytest.param(LLAMA8B, 2, 1000, 2, 65_536_000, id="half-the-heads-a-node"),
        pytest.param(LLAMA8B, 1, 1000, 1, 65_536_000, id="fp8"),
        pytest.param(LLAMA8B, 16, 1000, 2, 16_384_000, id="one-head-at-least"),
        # 18 layers see 1000 tokens, 18 see 128; 2 x 8 x 64 x 2 = 2048 bytes each.
        pytest.param(OSS, 1, 1000, 2, 20_304 * 2048, id="sliding-window"),
        pytest.param(OSS, 1, 100, 2, 3600 * 2048, id="inside-the-window"),
        pytest.param(DEEPSEEK, 1, 1000, 2, 31_104_000, id="latent"),
        pytest.param(DEEPSEEK, 2, 1000, 2, 31_104_000, id="latent-is-whole-on-each"),
    ],
)
def test_the_bytes_of_the_kv_cache(
    id: str, tp: int, context: float, width: float, bytes_read: int
) -> None:
    assert kv_bytes(ServedShape(shape=shape(id), tp=tp, kv_bytes=width), context) == bytes_read


@pytest.mark.parametrize(
    "streams, experts",
    [(1, 4.0), (2, 7.875), (10, 128 * (1 - (124 / 128) ** 10)), (10_000, 128.0)],
)
def test_more_streams_read_more_experts(streams: float, experts: float) -> None:
    assert experts_read(shape(OSS), streams) == pytest.approx(experts)


def test_a_batch_reads_dense_weights_once_and_every_cache() -> None:
    reading = ServedShape(shape=shape(LLAMA8B))
    assert weight_bytes(reading, 8) == weight_bytes(reading)
    expected = 273e9 / (15_009_849_344 + 8 * 131_072_000)
    assert tokens_per_second(reading, 1000, 8) == pytest.approx(expected)


# Of Qwen 7B on one node with 192 tokens on average: 19.29 tok/s, 51.84 ms.
ROOF_MS = 1e3 * (14_141_238_272 + 28 * 2 * 4 * 128 * 2 * 192) / 273e9


@pytest.mark.parametrize(
    "share, verdict, words",
    [
        pytest.param(0.74, "healthy", "74% of the decode roofline: healthy", id="healthy"),
        pytest.param(0.60001, "healthy", "60% of the decode roofline: healthy", id="just"),
        pytest.param(0.59, "slow", "disable_cuda_graph", id="slow"),
        pytest.param(0.201, "slow", "slower than published figures", id="still-slow"),
        pytest.param(0.09, "far below", "9% of the decode roofline: looks like", id="far-below"),
        pytest.param(0.999, "healthy", "100% of the decode roofline", id="at-the-roof"),
        pytest.param(1.01, "impossible", "101% of .*: a measurement error", id="above"),
    ],
)
def test_one_stream_is_judged(share: float, verdict: str, words: str) -> None:
    bound = roofline(run(ROOF_MS / share))
    assert bound.verdict == verdict
    assert bound.share == pytest.approx(share)
    assert bound.expected == pytest.approx(19.29, abs=0.01)
    assert re.search(words, bound.text)
    assert "BF16, TP1: 14.2 GB per token and node at 273 GB/s" in bound.text


@pytest.mark.parametrize(
    "tp, words",
    [
        pytest.param(2, "NCCL over TCP", id="between-nodes"),
        pytest.param(1, "throttled GPU", id="on-one-node"),
    ],
)
def test_a_result_far_below_the_roofline_has_a_likely_cause(tp: int, words: str) -> None:
    bound = roofline(run(1000.0, tp=tp))
    assert bound.verdict == "far below"
    assert words in bound.text


def test_pipeline_stages_do_not_speed_up_a_stream() -> None:
    """Two nodes in a pipeline make one stream no faster than one node."""
    bound = roofline(run(ROOF_MS / 0.8, tp=1, nodes=2, settings={"pp_size": 2}))
    assert bound.share == pytest.approx(0.8)
    assert "BF16, PP2" in bound.text


def test_prompts_between_the_steps_stretch_the_mean_and_not_the_verdict() -> None:
    usual = run(60.0, 8, mean_itl_ms=600.0)
    assert roofline(usual).verdict == "healthy"


def test_a_batch_of_a_mixture_is_judged_by_the_experts_that_it_reads() -> None:
    bound = roofline(run(50.0, 10, model=OSS, tp=2))
    # 34.82 of 128 experts: 16.59 GB, and 3.10 GB of all else; half of it a node, and 10 caches of
    # (18 x 192 + 18 x 128) x 4 x 256 bytes: 9.90 GB in 36.3 ms.
    assert bound.verdict == "healthy"
    assert bound.text.startswith(
        "73% of the estimate for 10 streams: healthy (20.0 of 27.6 tok/s per stream, "
        "35 of 128 experts per step; one stream alone: at most 109; MXFP4, TP2"
    )
    assert bound.expected == pytest.approx(27.6, abs=0.05)
    assert bound.share == pytest.approx(0.73, abs=0.005)  # the one that the text tells
    assert roofline(run(580.0, 10, model=OSS, tp=2)).verdict == "far below"


def test_runs_faster_than_the_expert_estimate_are_not_judged() -> None:
    bound = roofline(run(12.0, 10, model=OSS, tp=2))
    assert bound.verdict == "beside"
    assert "faster than estimated" in bound.text


def test_a_large_batch_has_a_bound_and_no_verdict() -> None:
    bound = roofline(run(500.0, 64))
    assert bound.verdict == "bound"
    assert bound.text.startswith(
        "2.00 tok/s per stream, 64 streams: the batch is too large to judge"
    )
    assert roofline(run(ROOF_MS / 1.1, 64)).verdict == "impossible"


def test_streams_together_faster_than_the_bound_are_an_error_too() -> None:
    """1270 tokens after the first ones, in 10 s, of one stream: 127 a second."""
    bound = roofline(run(60.0, duration=10.0))
    assert bound.verdict == "impossible"
    assert bound.text.startswith("127 tok/s in total; the roofline allows 19.3: a measurement")


@pytest.mark.parametrize(
    "result, why",
    [
        pytest.param(run(None), "no response has two tokens", id="one-token-answers"),
        pytest.param(run(60.0, completed=0), "no response has two tokens", id="nothing-completed"),
        pytest.param(run(60.0, model="org/other"), "size of org/other is unknown", id="model"),
        pytest.param(
            run(60.0, settings={"speculative_algorithm": "EAGLE3"}),
            "speculative (EAGLE3)",
            id="speculative",
        ),
        pytest.param(
            run(60.0, settings={"quantization": "awq"}), "as awq is unknown", id="quantised"
        ),
        pytest.param(run(60.0, tp=2, nodes=1), "TP 2 on 1 node", id="several-gpus-a-node"),
        pytest.param(
            run(60.0, settings={"tp_size": ""}),
            "how many nodes the model is split over",
            id="parallelism-not-told",
        ),
    ],
)
def test_a_missing_roofline_says_why(result: Result, why: str) -> None:
    bound = roofline(result)
    assert (bound.verdict, bound.share) == ("unknown", None)
    assert bound.text.startswith("no roofline: ")
    assert why in bound.text


def test_llama_cpp_reports_no_bytes() -> None:
    result = run(60.0)
    server = replace(result.provenance.server, engine="llama.cpp")
    bound = roofline(replace(result, provenance=replace(result.provenance, server=server)))
    assert "GGUF" in bound.text


def test_served_in_eight_bits_it_may_be_twice_as_fast() -> None:
    bound = roofline(run(1e3 / 20.5, model=LLAMA8B, settings={"quantization": "fp8"}))
    # 20.5 of 273e9 / (7,504,924,672 + 192 x 131,072) = 36.25.
    assert bound.share == pytest.approx(0.5655, abs=1e-3)
    assert "FP8, TP1" in bound.text


def test_unreported_settings_come_from_the_launch_arguments() -> None:
    result = run(60.0, settings={"tp_size": ""})
    deployment = result.provenance.deployment
    assert deployment
    launch = {"tp": 2, "extra_args": ["--quantization=fp8", "--kv-cache-dtype", "fp8_e4m3"]}
    setting = setting_of(deployed(result, replace(deployment, launch=launch)))
    assert (setting.tp, setting.quantization, setting.kv_bytes) == (2, "FP8", 1.0)


def test_a_model_is_known_by_its_folder_in_the_hubs_cache() -> None:
    path = "/hf/hub/models--Qwen--Qwen2.5-14B-Instruct/snapshots/ab"
    setting = setting_of(run(60.0, model="mine", settings={"model_path": path}))
    assert setting.model == "Qwen/Qwen2.5-14B-Instruct"


@pytest.mark.parametrize(
    "url, product, cpu, why",
    [
        pytest.param(
            "http://spark-9:30000", "NVIDIA DGX Spark", "", "nothing but its URL", id="far-away"
        ),
        pytest.param("http://127.0.0.1:1", "", "EPYC", "this machine is not a Spark", id="other"),
        pytest.param("http://127.0.0.1:1", "NVIDIA DGX Spark", "", "", id="spark-by-firmware"),
        pytest.param("http://[::1]:1", "GX10", "Cortex-X925 + Cortex-A725", "", id="gb10-by-cpu"),
        pytest.param("http://spark-1:1", "NVIDIA DGX Spark", "", "", id="by-its-own-name"),
    ],
)
def test_only_sparks_have_a_roofline(url: str, product: str, cpu: str, why: str) -> None:
    result = deployed(run(60.0, settings={"nnodes": 1}), None)
    machine = replace(result.provenance.machine, hostname="Spark-1", product=product, cpu=cpu)
    result = replace(
        result,
        config=replace(result.config, url=url),
        provenance=replace(result.provenance, machine=machine),
    )
    verdict = judge_result(result)
    if why:
        (only,) = verdict
        assert only.verdict == "unknown" and why in only.text
    else:
        assert verdict[0].verdict == "healthy"


def test_the_embedded_engine_has_no_spark_roofline() -> None:
    result = run(60.0)
    deployment = result.provenance.deployment
    assert deployment
    ranks = (replace(deployment.ranks[0], image=""),)
    (only,) = judge_result(deployed(result, replace(deployment, ranks=ranks)))
    assert only.text == "no roofline: the embedded engine serves, not a Spark"


def test_published_figures_name_models_whose_bytes_are_known() -> None:
    for one in load_published():
        # Those of certain texts are set beside their own load alone, which needs no bytes.
        assert one.workload or all(model.lower() in model_shapes() for model in one.models)
        assert any(getattr(one, name) for name in (*FIGURES, "decode_sum")) and one.source


@pytest.mark.parametrize(
    "result, shares",
    [
        # 155 at 4 streams on two nodes, and the 75, 2700 and 58 of several.
        pytest.param(
            run(20.0, 4, model=OSS, tp=2, output_throughput=124.0, mean_ttft_ms=1350.0),
            {"output_throughput": [124 / 75, 0.8], "ttft_ms": [0.5], "itl_ms": [20 / 58]},
            id="two-sources",
        ),
        pytest.param(
            run(25.0, model=OSS, output_throughput=39.0, mean_ttft_ms=100.0),
            {"decode": [40 / 55.4], "prefill": [1280 / 1725], "output_throughput": [39 / 57.5]},
            id="one-stream",
        ),
        pytest.param(
            run(312.5, model=LLAMA70B, tp=2), {"decode": [1.0]}, id="the-shapes-of-another"
        ),
        pytest.param(
            run(1000.0, model=LLAMA70B, nodes=2, settings={"pp_size": 2}),
            {"decode": [1 / 1.7]},
            id="in-stages",
        ),
    ],
)
def test_a_result_is_compared_with_figures_for_its_setting(
    result: Result, shares: dict[str, list[float]]
) -> None:
    figures: dict[str, list[float]] = {}
    for one in judge_result(result)[1:]:
        assert (one.verdict, one.about) == ("beside", "published")
        assert one.share and one.source in one.text and one.setting in one.text
        figures.setdefault(one.metric, []).append(one.share)
    assert figures == {name: pytest.approx(values) for name, values in shares.items()}


@pytest.mark.parametrize(
    "result, words",
    [
        pytest.param(run(60.0), "no published figures for Qwen/Qwen2.5-7B", id="of-the-model"),
        pytest.param(
            run(60.0, model=LLAMA8B),
            "published figures for BF16, 1 node TP1, 1 in flight; the nearest are decode 20.5 "
            "tok/s (meta-llama/Llama-3.1-8B-Instruct in FP8, SGLang",
            id="of-the-quantization",
        ),
        pytest.param(
            run(60.0, 5, model=OSS),
            "1 node TP1, 5 in flight; the nearest are output 319 tok/s",
            id="of-the-load",
        ),
    ],
)
def test_missing_published_figures_are_reported(result: Result, words: str) -> None:
    (only,) = judge_result(result)[1:]
    assert (only.verdict, only.share) == ("unknown", None)
    assert words in only.text


def test_lines_group_figures_by_source() -> None:
    result = run(20.0, 4, model=OSS, tp=2, output_throughput=124.0, mean_ttft_ms=1350.0)
    lines = list(expectation_lines(result))
    assert [name for name, _ in lines] == ["roofline", "published", "published"]
    assert lines[1][1] == (
        "output 124, published 75 tok/s (+65.3%); mean TTFT 1,350, published 2,700 ms (-50.0%); "
        "mean ITL 20.0, published 58 ms (-65.5%): openai/gpt-oss-120b (spark) in MXFP4, SGLang, 2 "
        "nodes TP2, several streams, reported (README of sglang-dgx-spark)"
    )


def test_a_finished_run_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_all(result_tables(run(70.0)))
    assert "74% of the decode roofline: healthy" in capsys.readouterr().out

"""Which published figures fit what serves, which loads they state, and a result beside them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from msgspec.structs import replace
from result_samples import a_result
from rich.console import Console
from spark_bench.display.tables import outcome_tables
from spark_bench.errors import BadInput
from spark_bench.expectations import expectation_lines, judge_result
from spark_bench.expectations.as_published import (
    RANDOM,
    Deployed,
    choose_figures,
    deployed,
    unstated,
)
from spark_bench.expectations.published import load_published
from spark_bench.metrics.intervals import Interval
from spark_bench.options import RunOutcome
from spark_bench.results.config_schema import Published
from spark_bench.results.schema import Result

FLASH = "RadixArk/Qwen3.8-Flash-Next-NVFP4"
STATED = [one for one in load_published() if not unstated(one)]


def here(**changes: Any) -> Deployed:
    whole = {
        "models": (FLASH,),
        "variant": "high-throughput",
        "nodes": 2,
        "parallelism": "TP2",
        "quantization": "modelopt_fp4",
    }
    return Deployed(**whole | changes)


def refused(what: Deployed, streams: tuple[int, ...] = ()) -> str:
    with pytest.raises(BadInput) as error:
        choose_figures(what, streams)
    return error.value.message


def a_figure(**changes: Any) -> Published:
    """Of a load of 10 prompts, 128 and 8 tokens, 4 in flight, on two Sparks."""
    figure = Published(
        models=("openai/gpt-oss-120b",),
        nodes=2,
        parallelism="TP2",
        variant="spark",
        engine="SGLang",
        quantization="MXFP4",
        evidence="verified upstream",
        workload=RANDOM,
        protocol="sglang.bench_serving",
        cache="flushed",
        prompts=10,
        streams=4,
        input_len=128,
        output_len=8,
        tpot_ms=20.0,
        ttft_ms=100.0,
        total_per_gpu=50.0,
        source="somewhere",
    )
    return replace(figure, **changes)


def sent(one: Published, repeats: bool = False, **changes: Any) -> Result:
    """A result that sent this load: TPOT 22 ms, TTFT 90 ms, 120 tok/s in all."""
    result = a_result()
    n = one.prompts or 0
    summary = {
        "completed": n,
        "failed": 0,
        "failures": {},
        "total_input_tokens": n * (one.input_len or 0),
        "total_output_tokens": n * (one.output_len or 0),
        "total_throughput": 120.0,
        "mean_tpot_ms": 22.0,
        "mean_ttft_ms": 90.0,
    }
    config = replace(
        result.config,
        dataset=None,
        num_prompts=n,
        input_len=one.input_len,
        output_len=one.output_len,
        concurrency=one.streams,
        published=one,
    )
    method = "student-t" if repeats else "bootstrap"
    within = {
        "mean_tpot_ms": Interval(22.0, 21.0, 23.0, 3, method),
        "total_throughput": Interval(120.0, 110.0, 130.0, 3, method),
    }
    whole = replace(
        result, config=config, intervals=within, summary=replace(result.summary, **summary)
    )
    return replace(whole, **{"status": "complete", "reason": ""} | changes)


def printed(*results: Result, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in outcome_tables(RunOutcome(results, (), 0, 0)):
        console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize(
    "one", STATED, ids=lambda one: f"{one.models[0]} {one.variant} {one.nodes} c{one.streams}"
)
def test_every_stated_load_is_chosen_for_its_own_setting(one: Published) -> None:
    chosen = choose_figures(
        here(
            models=one.models[:1],
            variant=one.variant,
            nodes=one.nodes,
            parallelism=one.parallelism,
            quantization="" if one.quantization == "BF16" else one.quantization.lower(),
        )
    )
    assert one in chosen.figures
    assert [each.streams for each in chosen.figures] == sorted(
        each.streams or 0 for each in chosen.figures
    )
    settings = {(each.variant, each.nodes, each.parallelism) for each in chosen.figures}
    assert settings == {(one.variant, one.nodes, one.parallelism)}
    # What can be sent is stated by the source, and what it measured was speed.
    assert one.protocol and one.workload == RANDOM and one.prompts and one.tpot_ms


def test_loads_that_lack_a_piece_are_named_with_it() -> None:
    chosen = choose_figures(here())
    assert [one.streams for one in chosen.figures] == [1, 16]
    (note,) = chosen.notes
    assert note.startswith("not compared: 1024/256 tokens, 96 in flight (mean TPOT 301.92 ms")
    assert note.endswith("): not stated: number of prompts")


def test_streams_choose_among_the_stated_loads() -> None:
    assert [one.streams for one in choose_figures(here(), (16,)).figures] == [16]
    assert refused(here(), (96,)) == (
        f"--as-published 96: {FLASH}, variant high-throughput, 2 nodes TP2 has no published figure "
        "with its whole load at 96 in flight: not stated: number of prompts; it has some at 1, 16"
    )
    assert refused(here(), (7,)).endswith("at 7 in flight; it has some at 1, 16")


@pytest.mark.parametrize(
    "changes, words",
    [
        pytest.param(
            {"models": ("org/other",)},
            f"no figures are published for org/other; with their whole load, there are some for "
            f"{FLASH} (low-latency on 2 nodes, high-throughput on 2 nodes, ",
            id="model",
        ),
        pytest.param(
            {"variant": ""}, "give --variant, one of 'low-latency', 'high-throughput'", id="unsaid"
        ),
        pytest.param({"nodes": None}, "give --nodes, one of 1, 2", id="nodes unknown"),
        pytest.param(
            {"nodes": 4, "parallelism": "TP4"}, "variant high-throughput, 4 nodes TP4; ", id="nodes"
        ),
        pytest.param({"parallelism": "PP2"}, "2 nodes PP2; ", id="split"),
        pytest.param(
            {"models": ("openbmb/MiniCPM5-2B",), "variant": "none", "nodes": 1}
            | {"parallelism": "TP1", "quantization": "fp8"},
            "serves in fp8, and its published figures are for BF16: deploy it without ",
            id="quantization",
        ),
        pytest.param(
            {"models": ("openai/gpt-oss-120b",), "variant": "spark", "quantization": ""},
            "no published figure states the whole of its load: not stated: texts, ",
            id="nothing stated",
        ),
        pytest.param(
            {"models": ("nvidia/Qwen3.5-122B-A10B-NVFP4",), "nodes": 4, "parallelism": "TP4"}
            | {"variant": "dgxarley"},
            "its texts are not random ones: \"dgxarley's matrix test, ",
            id="texts",
        ),
    ],
)
def test_what_has_no_figures_is_refused_with_what_there_is(
    changes: dict[str, Any], words: str
) -> None:
    message = refused(here(**changes))
    assert message.startswith("--as-published: ") and words in message


@pytest.mark.parametrize(
    "missing, words",
    [
        ({"protocol": ""}, "not stated: way of sending"),
        ({"workload": ""}, "not stated: texts"),
        ({"prompts": None, "cache": ""}, "not stated: number of prompts, cache state"),
        ({"output_len": None}, "not stated: input and output lengths"),
        ({"cache": "warm"}, "its cache was not empty: 'warm'"),
        ({"workload": "code"}, "its texts are not random ones: 'code'"),
        ({}, ""),
    ],
)
def test_a_load_is_sent_only_if_all_of_it_is_stated(missing: dict[str, Any], words: str) -> None:
    assert unstated(a_figure(**missing)) == words


def test_what_serves_is_known_from_the_server_the_project_and_the_user() -> None:
    provenance = a_result().provenance
    known = deployed(provenance, "alias", "", "spark", None)
    assert (known.nodes, known.parallelism, known.variant) == (2, "TP2", "spark")
    assert known.models == ("openai/gpt-oss-120b", "alias")
    assert deployed(provenance, "alias", "org/own", "", 4).models == ("org/own",)
    bare = replace(
        provenance, deployment=None, server=replace(provenance.server, settings={}, model="x")
    )
    unknown = deployed(bare, "x", "", "", None)
    assert (unknown.nodes, unknown.parallelism, unknown.quantization) == (None, "", "")


def test_tpot_comes_first_and_the_sum_of_tokens_is_over_the_same_gpus() -> None:
    figures = judge_result(sent(a_figure()))[1:]
    assert [(one.metric, one.measured, one.expected) for one in figures] == [
        ("tpot_ms", 22.0, 20.0),
        ("ttft_ms", 90.0, 100.0),
        ("total_per_gpu", 60.0, 50.0),
    ]
    line = dict(expectation_lines(sent(a_figure())))["published"]
    assert line == (
        "mean TPOT 22.0, published 20 ms (+10.0%); mean TTFT 90.0, published 100 ms (-10.0%); "
        "input + output per GPU 60.0, published 50 tok/s (+20.0%): openai/gpt-oss-120b (spark) in "
        "MXFP4, SGLang, 2 nodes TP2, 128/8 tokens, 4 in flight, verified upstream (somewhere)"
    )


def test_the_interval_is_that_over_repeats_and_over_the_gpus() -> None:
    tpot, _, total = judge_result(sent(a_figure(), repeats=True))[1:]
    assert (tpot.low, tpot.high) == (21.0, 23.0)
    assert (total.low, total.high) == (55.0, 65.0)
    assert "mean TPOT 22.0 ±1.00, published 20 ms" in tpot.text
    # Within one run, it says nothing of how far another run would be.
    assert judge_result(sent(a_figure()))[1].low is None


def test_a_load_that_went_otherwise_is_not_compared() -> None:
    one = a_figure()
    whole = sent(one)

    def why(result: Result) -> str:
        (only,) = judge_result(result)[1:]
        assert only.share is None
        return only.text.partition("(somewhere): ")[2]

    def summed(**changes: Any) -> Result:
        return replace(whole, summary=replace(whole.summary, **changes))

    assert why(replace(whole, status="partial")) == "the run ended before its last request"
    assert why(summed(failed=2, completed=8)) == "2 of 10 requests failed"
    assert why(summed(total_output_tokens=60)) == "the answers had 60 tokens, not 80"
    assert why(summed(total_input_tokens=1400)) == "the prompts had 1,400 tokens, not 1,280"
    assert why(replace(whole, config=replace(whole.config, concurrency=8))) == (
        "the load is not the published one"
    )


def test_what_else_differs_is_named() -> None:
    provenance = a_result().provenance
    server = replace(
        provenance.server, settings=provenance.server.settings | {"speculative_algorithm": "NEXTN"}
    )
    result = sent(a_figure(), provenance=replace(provenance, server=server))
    assert any("decoding is speculative (NEXTN)" in text for _, text in expectation_lines(result))
    result = sent(a_figure(), provenance=replace(provenance, deployment=None))
    result = replace(result, config=replace(result.config, url="http://elsewhere:30000"))
    assert any("for Sparks: nothing but its URL" in text for _, text in expectation_lines(result))


def test_a_load_of_its_own_is_not_set_beside_figures_of_certain_texts() -> None:
    result = sent(a_figure())
    provenance = result.provenance
    assert provenance.deployment
    server = replace(provenance.server, model=FLASH)
    config = replace(a_result().config, model=FLASH)
    deployment = replace(provenance.deployment, model=FLASH)
    plain = replace(
        result, config=config, provenance=replace(provenance, server=server, deployment=deployment)
    )
    (only,) = judge_result(plain)[1:]
    assert only.verdict == "unknown" and "--as-published" in only.text


@pytest.mark.parametrize("width", [60, 80])
def test_one_table_at_the_end_has_every_load(width: int) -> None:
    one, more = a_figure(streams=1, tpot_ms=11.0), a_figure()
    one = replace(one, input_len=131_072, output_len=1024, ttft_ms=71_292.2)
    partial = replace(sent(more), status="partial")
    text = printed(sent(one, repeats=True), sent(more), partial, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    table = text[text.rindex("difference") :]
    assert "+100%" in table and "+10.0%" in table and "71,292.2" in table
    assert "compared" in table and "verified upstream" in table

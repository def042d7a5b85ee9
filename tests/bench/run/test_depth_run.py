"""`spark-bench run --depth` against the reference server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_here import Ran, run
from spark_bench.cli import main
from spark_bench.metrics.depth import DepthFigures
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.results.schema import Result

LOAD = ("-i", "32", "-o", "8", "--warmup", "0")


def figures_of(result: Result) -> DepthFigures:
    assert isinstance(result.depth, DepthFigures)
    return result.depth


def by_depth(ran: Ran) -> dict[int, Result]:
    assert ran.code == 0, ran.err
    return {figures_of(result).depth: result for result in ran.results}


def test_each_depth_is_a_result_of_one_batch_a_repeat(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    reference.configure(ttft_us=4_000, itl_us=2_000, ttft_per_in_us=50)
    here = tmp_path / "r"
    ran = run(reference.url, "--depth", "64,0", "-c", "2", *LOAD, here=here)
    results = by_depth(ran)
    sent = [stream.prompt_tokens for stream in reference.dump()][-12:]
    assert sent == [32] * 6 + [96] * 6
    for depth, result in results.items():
        config, figures = result.config, figures_of(result)
        assert (config.profile, config.repeat, config.num_prompts) == ("depth", 3, 2)
        assert (config.depth, config.depth_cached, config.cache) == (depth, False, "miss")
        assert result.lengths.differing == 0
        assert (len(figures.batches), figures.contexts, figures.cached) == (3, (), False)
        for batch, repeat in zip(figures.batches, result.repeats, strict=True):
            assert figures_of(repeat).batches == (batch,)
            assert len(batch.ttft_ms) == 2
            for pp, ttft in zip(batch.pp_each, batch.ttft_ms, strict=True):
                assert pp == pytest.approx((depth + 32) / ttft * 1e3)
            # A prompt takes 4 ms and 50 µs for each of its tokens, two at once as long as one.
            assert min(batch.ttft_ms) >= 4 + 0.05 * (depth + 32)
    rows = [line.split("  ")[0].strip() for line in ran.out.splitlines() if "(c2)" in line]
    assert rows == ["pp32 (c2)", "tg8 (c2)", "pp32 @ d64 (c2)", "tg8 @ d64 (c2)"]
    done = CliRunner().invoke(main, ["report", str(here), "--llama-benchy", "-"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [run["context_size"] for run in report["benchmarks"]] == [0, 64]
    assert len(report["benchmarks"][0]["tg_throughput"]["values"]) == 3
    page = tmp_path / "page.html"
    assert CliRunner().invoke(main, ["report", str(here), "-o", str(page)]).exit_code == 0
    assert "pp32 @ d64 (c2)" in page.read_text()


def test_cached_contexts_are_sent_before_and_measured_apart(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    reference.configure(ttft_us=4_000, itl_us=2_000)
    words = ("--depth", "0,64", "--depth-cached", "--repeat", "2")
    ran = run(reference.url, *words, *LOAD, here=tmp_path / "r")
    results = by_depth(ran)
    assert [stream.prompt_tokens for stream in reference.dump()][-6:] == [32, 32, 64, 96, 64, 96]
    figures = figures_of(results[64])
    assert (figures.cached, figures.in_cache, len(figures.contexts)) == (True, None, 2)
    for batch in figures.batches:
        assert batch.pp == pytest.approx(32 / batch.ttft_ms[0] * 1e3)
    assert results[64].summary.completed == 2
    assert any("the server reports no cached tokens" in note for note in results[64].notes)
    assert not figures_of(results[0]).contexts
    assert "ctx_pp @ d64" in ran.out and "ctx_tg @ d64" in ran.out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--depth", "x"], "--depth x: give numbers of tokens, such as 0,4096,16384"),
        (["--depth", "-1"], "--depth -1: give numbers of tokens"),
        (["--depth", "1,,2"], "--depth 1,,2: give numbers of tokens"),
        (["--depth", "9" * 9], "give numbers of tokens"),
        (["--depth", "0", "-n", "3"], "--num-prompts doesn't go with --depth"),
        (["--depth", "0", "-r", "3"], "--request-rate doesn't go with --depth"),
        (["--depth", "0", "--sweep", "rate"], "--sweep doesn't go with --depth"),
        (["--depth", "0", "--turns", "2"], "--turns doesn't go with --depth"),
        (["--depth", "0", "--as-published"], "--as-published doesn't go with --depth"),
        (["--depth", "0", "--cache", "hit"], "give --depth-cached"),
        (["--depth-cached"], "--depth-cached needs --depth"),
        (["--depth", "131072"], "--depth 131072, --input-len 2048 and --output-len 32 are"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_sent(
    reference: ReferenceServer, words: list[str], error: str
) -> None:
    ran = run(reference.url, *words)
    assert ran.code == 2 and error in ran.err and len(ran.err.splitlines()) == 1
    assert not reference.dump()

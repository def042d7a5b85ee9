from __future__ import annotations

import msgspec
import pytest
from result_samples import REQUESTS, SIDE, a_repeat, a_result
from spark_bench.client.audit import Audit, Spread
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.histograms import reconcile
from spark_bench.metrics.steady import Steady
from spark_bench.metrics.times import TimedRequests
from spark_bench.results.assemble import (
    combine_repeats,
    median_summary,
    node_figures,
    server_figures,
    worst_audit,
)
from spark_bench.results.codec import decode_result, encode_result
from spark_bench.telemetry.readings import ServerSide


def test_one_repeat_becomes_the_summary_unchanged() -> None:
    one = a_repeat(0)
    top = combine_repeats([one])
    assert all(getattr(top, name) == getattr(one, name) for name in top.__struct_fields__)


def test_several_repeats_have_intervals_and_sums() -> None:
    top = combine_repeats([a_repeat(0), a_repeat(1), a_repeat(2)])
    assert top.intervals["output_throughput"].n == 3
    assert top.lengths.checked == 3 * 9
    assert top.summary.failures == {"http_500": 3}
    assert top.distributions is None


def test_figures_are_medians_and_counts_are_sums() -> None:
    top = median_summary(
        [
            Summary(
                duration=duration,
                completed=10,
                failed=len(failures),
                failures=failures,
                peak_concurrency=peak,
                p99_ttft_ms=p99,
                itl_source=source,
            )
            for duration, failures, peak, p99, source in (
                (1.0, {"cut": 1}, 4, 7.0, {"chunk": 1.0}),
                (9.0, {"http_500": 1}, 5, None, {"chunk": 0.5, "even": 0.5}),
                (2.0, {"cut": 1}, 4, 9.0, {"chunk": 1.0}),
            )
        ]
    )
    assert (top.duration, top.completed, top.failed) == (2.0, 30, 3)
    assert top.failures == {"cut": 2, "http_500": 1}
    assert (top.peak_concurrency, top.p99_ttft_ms, top.mean_itl_ms) == (5, 8.0, None)
    assert top.itl_source == {"chunk": 1.0, "even": 0.0}


def a_window(throughput: float) -> Steady:
    return Steady(
        rule="closed",
        start=0.5,
        end=2.5,
        output_tokens=100,
        output_throughput=throughput,
        completed=5,
        request_throughput=1.0,
        concurrency=4.0,
        n_ttft=5,
        mean_ttft_ms=200.0,
        median_ttft_ms=200.0,
        p99_ttft_ms=200.0,
        mean_itl_ms=None,
        median_itl_ms=None,
        p99_itl_ms=None,
    )


def test_the_steady_part_is_combined_where_every_repeat_has_one() -> None:
    steady = median_summary([Summary(steady=a_window(t)) for t in (50.0, 60.0, 90.0)]).steady
    assert steady is not None
    assert (steady.output_throughput, steady.output_tokens, steady.mean_itl_ms) == (60.0, 300, None)


def test_the_steady_part_is_missing_if_a_repeat_lacks_one() -> None:
    top = median_summary([Summary(steady=a_window(5.0)), Summary(steady_reason="too short")])
    assert (top.steady, top.steady_reason) == (None, "too short")


def test_combined_exactness_is_the_worst_repeats() -> None:
    good = Audit(clock="kernel", reads=10, lag_us=Spread(7, 17, 100), clock_step_us=3.0)
    bad = Audit(
        clock="kernel",
        reads=20,
        lag_us=Spread(9, 12, 900),
        clock_step_us=-8.0,
        verdict="approximate",
        reasons=("it fell behind",),
    )
    worst = worst_audit([good, bad, bad])
    assert (worst.clock, worst.reads, worst.lag_us) == ("kernel", 50, Spread(9, 17, 900))
    assert (worst.verdict, worst.reasons) == ("approximate", ("it fell behind",))
    assert worst.clock_step_us == -8.0
    assert worst_audit([good, msgspec.structs.replace(bad, clock="process")]).clock == "mixed"


def test_the_servers_side_is_kept_as_columns_from_the_runs_start() -> None:
    figures = server_figures(SIDE, None)
    assert figures is not None
    assert figures.samples.at == (0.0, 1.5)
    assert figures.samples.running == (0.0, 4.0)
    assert figures.samples.throughput == (None, 75.0)
    assert (figures.running.mean, figures.queued) == (3.0, None)  # type: ignore[union-attr]


def test_the_nodes_power_becomes_tokens_per_joule() -> None:
    figures = node_figures(SIDE, output_tokens=220)
    assert figures is not None
    assert figures.tokens_per_joule == pytest.approx(2.0)
    [node] = figures.nodes
    assert node.samples.at == (1.0, 2.0)
    assert node.samples.power_w == (50.0, 60.0)
    assert node.samples.memory_used_bytes == (None, 70.0)


def test_nothing_sampled_is_null() -> None:
    assert server_figures(ServerSide(), None) is None
    assert node_figures(ServerSide(), 9) is None


def test_both_are_written_and_read() -> None:
    result = msgspec.structs.replace(
        a_result(),
        server=server_figures(SIDE, reconcile({}, {}, TimedRequests(REQUESTS))),
        nodes=node_figures(SIDE, 40),
    )
    assert decode_result(encode_result(result)) == result

"""The client's figures beside the server's own."""

from __future__ import annotations

import math

import numpy as np
import prometheus_client
import pytest
from made_requests import answer, failed
from prometheus_client.parser import text_string_to_metric_families
from spark_bench.metrics.histograms import Bounded, Histogram, bounded, reconcile
from spark_bench.metrics.times import TimedRequests
from spark_bench.record import Request

INF = math.inf
TTFT = "sglang:time_to_first_token_seconds"
ITL = "sglang:inter_token_latency_seconds"
E2E = "sglang:e2e_request_latency_seconds"
QUEUE = "sglang:queue_time_seconds"


def observed(name: str, *seconds: float, buckets: tuple[float, ...] = (0.1, 0.2, 0.4)) -> Histogram:
    """A histogram as a Prometheus client library would have it."""
    counts = [(upper, sum(s <= upper for s in seconds)) for upper in (*buckets, INF)]
    return Histogram(name, tuple(counts), sum(seconds), len(seconds))


def ten_requests() -> list[Request]:
    return [answer(i, ttft=150, gaps=[10.0] * 4) for i in range(10)]


def test_ttft_is_split_into_queue_engine_and_network() -> None:
    before = {TTFT: observed(TTFT, 9.0), QUEUE: observed(QUEUE, 9.0)}
    after = {
        TTFT: observed(TTFT, 9.0, *[0.14] * 10),
        QUEUE: observed(QUEUE, 9.0, *[0.04] * 10),
        ITL: observed(ITL, *[0.01] * 40, buckets=(0.008, 0.012)),
        E2E: observed(E2E, *[0.18] * 10),
    }
    reconciliation = reconcile(before, after, TimedRequests(ten_requests()))
    assert reconciliation.ttft.server is not None
    assert (reconciliation.ttft.n, reconciliation.ttft.server.n, reconciliation.ttft.note) == (
        10,
        10,
        "",
    )
    assert reconciliation.ttft.server.mean == pytest.approx(140)
    assert reconciliation.ttft.difference == pytest.approx(10)
    assert reconciliation.ttft.share == pytest.approx(10 / 150)
    assert (reconciliation.ttft.p50, reconciliation.ttft.p99) == (150, 150)
    parts = (
        reconciliation.ttft_queue_ms,
        reconciliation.ttft_engine_ms,
        reconciliation.ttft_outside_ms,
    )
    assert parts == pytest.approx((40, 100, 10))
    assert reconciliation.itl.difference == pytest.approx(0)
    assert reconciliation.e2e_latency.difference == pytest.approx(10)
    assert (
        reconciliation.itl.note
        == reconciliation.e2e_latency.note
        == reconciliation.queue_note
        == ""
    )


def test_only_what_came_during_the_run_is_in_a_percentile() -> None:
    before = observed(TTFT, *[0.05] * 100)
    after = observed(TTFT, *[0.05] * 100, *[0.3] * 10)
    reconciliation = reconcile(
        {TTFT: before}, {TTFT: after}, TimedRequests(ten_requests())
    ).ttft.server
    assert reconciliation is not None
    assert (reconciliation.p50.low, reconciliation.p50.high) == (200, 400)


def test_percentiles_are_bounded_by_their_bucket() -> None:
    histogram = observed("x", *[0.05] * 50, *[0.15] * 40, *[0.3] * 9, 7.0)
    assert bounded(histogram, 50) == Bounded(low=0, high=100, estimate=100)
    half = bounded(histogram, 70)
    assert (half.low, half.high, half.estimate) == (100, 200, pytest.approx(150))
    p99 = bounded(histogram, 99)
    assert (p99.low, p99.high, p99.estimate) == (200, 400, pytest.approx(400))
    top = bounded(histogram, 99.9)
    assert (top.low, top.high, top.estimate) == (400, None, 400)


def test_bounds_hold_the_true_percentiles() -> None:
    rng = np.random.default_rng(0)
    seconds = rng.exponential(0.1, 1000)
    histogram = observed("x", *seconds.tolist(), buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0))
    for percentile in (1, 50, 90, 99):
        bounds = bounded(histogram, percentile)
        true = float(np.percentile(seconds, percentile, method="inverted_cdf")) * 1e3
        assert bounds.high is not None
        assert bounds.low <= true <= bounds.high
        assert bounds.low <= bounds.estimate <= bounds.high


@pytest.mark.parametrize(
    "observations, says",
    [
        pytest.param(12, "the server counted 12, the client 10: others used it", id="others"),
        pytest.param(7, "the server counted 7, the client 10: not all", id="fewer"),
    ],
)
def test_a_different_number_of_requests_is_noted(observations: int, says: str) -> None:
    after = {TTFT: observed(TTFT, *[0.1] * observations)}
    assert reconcile(
        {}, after, TimedRequests([*ten_requests(), failed(10, "cut")])
    ).ttft.note.startswith(says)


def test_hidden_tokens_are_named_where_the_counts_of_itl_differ() -> None:
    after = {ITL: observed(ITL, *[0.01] * 70)}
    assert "hidden" in reconcile({}, after, TimedRequests(ten_requests())).itl.note


def test_a_server_without_histograms_has_no_figures() -> None:
    reconciliation = reconcile({}, {}, TimedRequests(ten_requests()))
    for compared in (reconciliation.ttft, reconciliation.itl, reconciliation.e2e_latency):
        assert compared.note == "n/a: the server has no such histogram"
        assert compared.server is compared.difference is None
    assert reconciliation.ttft.mean == 150
    assert (
        reconciliation.queue
        is reconciliation.ttft_queue_ms
        is reconciliation.ttft_engine_ms
        is None
    )
    assert reconciliation.queue_note == "n/a: the server has no such histogram"


@pytest.mark.parametrize(
    "before, after, says",
    [
        pytest.param(observed(TTFT, 1, 1), observed(TTFT, 1), "restarted", id="fell"),
        pytest.param(observed(TTFT, 1), observed(TTFT, 1), "observed nothing", id="nothing new"),
        pytest.param(
            observed(TTFT, 1, buckets=(1, 2)), observed(TTFT, 1, 1), "buckets changed", id="buckets"
        ),
    ],
)
def test_histograms_that_cant_be_subtracted_are_noted(
    before: Histogram, after: Histogram, says: str
) -> None:
    reconciliation = reconcile({TTFT: before}, {TTFT: after}, TimedRequests(ten_requests())).ttft
    assert reconciliation.server is None
    assert reconciliation.note.startswith("n/a: ") and says in reconciliation.note


def test_without_whole_answers_the_servers_figures_remain() -> None:
    reconciliation = reconcile(
        {}, {TTFT: observed(TTFT, 0.1)}, TimedRequests([failed(0, "cut")])
    ).ttft
    assert (reconciliation.n, reconciliation.mean, reconciliation.difference) == (0, None, None)
    assert reconciliation.server is not None
    assert reconciliation.note == "n/a: the client has none"


@pytest.mark.parametrize(
    "name, figure",
    [
        pytest.param("vllm:time_to_first_token_seconds", "ttft", id="ttft"),
        pytest.param("vllm:inter_token_latency_seconds", "itl", id="itl"),
        pytest.param("vllm:time_per_output_token_seconds", "itl", id="older itl"),
        pytest.param("vllm:e2e_request_latency_seconds", "e2e_latency", id="e2e"),
    ],
)
def test_vllms_names(name: str, figure: str) -> None:
    reconciliation = getattr(
        reconcile({}, {name: observed(name, 0.1)}, TimedRequests(ten_requests())), figure
    )
    assert reconciliation.server.name == name
    assert reconciliation.server.mean == pytest.approx(100)


def test_a_real_exposition_fits() -> None:
    registry = prometheus_client.CollectorRegistry()
    metric = prometheus_client.Histogram(TTFT, "TTFT", registry=registry, buckets=(0.1, 0.2))
    for _ in range(10):
        metric.observe(0.14)
    text = prometheus_client.generate_latest(registry).decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    value = {s.name.removeprefix(TTFT): s.value for s in samples}
    buckets = tuple((float(s.labels["le"]), s.value) for s in samples if "le" in s.labels)
    scraped = Histogram(TTFT, buckets, value["_sum"], value["_count"])
    reconciliation = reconcile({}, {TTFT: scraped}, TimedRequests(ten_requests())).ttft
    assert reconciliation.difference == pytest.approx(10)
    assert reconciliation.note == ""

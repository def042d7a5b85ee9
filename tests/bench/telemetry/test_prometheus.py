"""What an engine's /metrics means, whichever engine it is."""

from __future__ import annotations

from math import inf

import msgspec
import pytest
from spark_bench.telemetry.messages import SamplerLine, ServerLine
from spark_bench.telemetry.prometheus import parse_metrics

# As SGLang 0.5.23 prints them (prometheus_client, multiprocess mode), two attention-DP ranks, each
# told by both of its TP ranks.
SGLANG = """\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{dp_rank="0",model_name="m",pp_rank="0",tp_rank="0"} 3.0
sglang:num_running_reqs{dp_rank="0",model_name="m",pp_rank="0",tp_rank="1"} 3.0
sglang:num_running_reqs{dp_rank="1",model_name="m",pp_rank="0",tp_rank="2"} 5.0
# HELP sglang:num_queue_reqs The number of requests in the waiting queue.
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{dp_rank="0",model_name="m",pp_rank="0",tp_rank="0"} 7.0
# HELP sglang:token_usage The token usage.
# TYPE sglang:token_usage gauge
sglang:token_usage{dp_rank="0",model_name="m",pp_rank="0",tp_rank="0"} 0.25
sglang:token_usage{dp_rank="0",model_name="m",pp_rank="0",tp_rank="1"} 0.25
sglang:token_usage{dp_rank="1",model_name="m",pp_rank="0",tp_rank="2"} 0.75
# HELP sglang:cache_hit_rate The prefix cache hit rate.
# TYPE sglang:cache_hit_rate gauge
sglang:cache_hit_rate{model_name="m"} 0.125
# HELP sglang:gen_throughput The generation throughput (token/s).
# TYPE sglang:gen_throughput gauge
sglang:gen_throughput{model_name="m",tp_rank="0"} 75.5
# HELP sglang:generation_tokens_total Number of generation tokens processed.
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{model_name="m"} 1024.0
# HELP sglang:prompt_tokens_total Number of prefill tokens processed.
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="m"} 4096.0
# HELP sglang:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE sglang:time_to_first_token_seconds histogram
sglang:time_to_first_token_seconds_sum{model_name="m"} 1.5
sglang:time_to_first_token_seconds_bucket{le="0.1",model_name="m"} 2.0
sglang:time_to_first_token_seconds_bucket{le="1.0",model_name="m"} 6.0
sglang:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"} 6.0
sglang:time_to_first_token_seconds_count{model_name="m"} 6.0
# HELP sglang:queue_time_seconds Histogram of queueing time in seconds.
# TYPE sglang:queue_time_seconds histogram
sglang:queue_time_seconds_bucket{le="0.1",model_name="m",dp_rank="0",tp_rank="0"} 2.0
sglang:queue_time_seconds_bucket{le="+Inf",model_name="m",dp_rank="0",tp_rank="0"} 3.0
sglang:queue_time_seconds_sum{model_name="m",dp_rank="0",tp_rank="0"} 0.5
sglang:queue_time_seconds_count{model_name="m",dp_rank="0",tp_rank="0"} 3.0
sglang:queue_time_seconds_bucket{le="0.1",model_name="m",dp_rank="0",tp_rank="1"} 2.0
sglang:queue_time_seconds_bucket{le="+Inf",model_name="m",dp_rank="0",tp_rank="1"} 3.0
sglang:queue_time_seconds_sum{model_name="m",dp_rank="0",tp_rank="1"} 0.5
sglang:queue_time_seconds_count{model_name="m",dp_rank="0",tp_rank="1"} 3.0
sglang:queue_time_seconds_bucket{le="0.1",model_name="m",dp_rank="1",tp_rank="2"} 1.0
sglang:queue_time_seconds_bucket{le="+Inf",model_name="m",dp_rank="1",tp_rank="2"} 1.0
sglang:queue_time_seconds_sum{model_name="m",dp_rank="1",tp_rank="2"} 0.25
sglang:queue_time_seconds_count{model_name="m",dp_rank="1",tp_rank="2"} 1.0
"""
VLLM = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 4.0
vllm:num_requests_running{engine="1",model_name="m"} 6.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
# TYPE vllm:gpu_cache_usage_perc gauge
vllm:gpu_cache_usage_perc{engine="0",model_name="m"} 0.5
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 200.0
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 50.0
# TYPE vllm:time_per_output_token_seconds histogram
vllm:time_per_output_token_seconds_bucket{engine="0",le="0.01",model_name="m"} 1.0
vllm:time_per_output_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 2.0
vllm:time_per_output_token_seconds_count{engine="0",model_name="m"} 2.0
vllm:time_per_output_token_seconds_sum{engine="0",model_name="m"} 0.03
"""
LLAMACPP = """\
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed.
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 321
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 42
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 8
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 9
"""


def test_ranks_that_work_on_the_same_requests_count_once_and_others_add_up() -> None:
    metrics = parse_metrics(SGLANG)
    assert (metrics.running, metrics.queued) == (8.0, 7.0)
    assert (metrics.generated, metrics.prompted, metrics.throughput) == (1024.0, 4096.0, 75.5)


def test_shares_are_averaged_over_the_groups_of_ranks() -> None:
    metrics = parse_metrics(SGLANG)
    assert (metrics.token_usage, metrics.cache_hit_rate) == (0.5, 0.125)


def test_histograms_keep_their_names_and_add_up_like_everything_else() -> None:
    metrics = parse_metrics(SGLANG).histograms
    assert metrics is not None
    assert set(metrics) == {"sglang:time_to_first_token_seconds", "sglang:queue_time_seconds"}
    ttft = metrics["sglang:time_to_first_token_seconds"]
    assert ttft.buckets == ((0.1, 2.0), (1.0, 6.0), (inf, 6.0))
    assert (ttft.sum, ttft.count) == (1.5, 6.0)
    queue = metrics["sglang:queue_time_seconds"]
    assert queue.buckets == ((0.1, 3.0), (inf, 4.0))
    assert (queue.sum, queue.count) == (0.75, 4.0)


def test_histograms_can_be_left_out() -> None:
    assert parse_metrics(SGLANG, histograms=False).histograms is None


def test_vllm_has_the_same_under_other_names() -> None:
    metrics = parse_metrics(VLLM)
    assert (metrics.running, metrics.queued, metrics.token_usage) == (10.0, 1.0, 0.5)
    assert (metrics.cache_hits, metrics.cache_queries) == (50.0, 200.0)
    assert set(metrics.histograms or {}) == {"vllm:time_per_output_token_seconds"}


def test_llama_cpp_reports_less() -> None:
    metrics = parse_metrics(LLAMACPP)
    assert (metrics.running, metrics.queued, metrics.generated) == (2.0, 9.0, 321.0)
    assert (metrics.prompted, metrics.cache_hits) == (50.0, 8.0)
    assert metrics.token_usage is None
    assert metrics.histograms == {}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("# TYPE sglang:num_running_reqs gauge\n", id="families-without-samples"),
        pytest.param("up 1\n", id="somebody-elses"),
    ],
)
def test_a_metric_that_is_not_reported_is_none(text: str) -> None:
    metrics = parse_metrics(text)
    assert (metrics.running, metrics.queued, metrics.throughput, metrics.token_usage) == (None,) * 4


@pytest.mark.parametrize(
    "text", [pytest.param("<html>no</html>", id="html"), pytest.param('{"a": 1}', id="json")]
)
def test_invalid_prometheus_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_metrics(text)


def test_a_reading_survives_json() -> None:
    line = ServerLine(5, parse_metrics(SGLANG))
    sent = msgspec.json.encode(line.sealed())
    assert msgspec.json.decode(sent, type=ServerLine).opened() == line


TTFT = "sglang:time_to_first_token_seconds"


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(["_bucket 5"], id="no-bound"),
        pytest.param(['_bucket{le="1"} 5'], id="no-last-bucket"),
        pytest.param(['_bucket{le="1"} NaN', '_bucket{le="+Inf"} 5'], id="count-is-none"),
        pytest.param(['_bucket{le="NaN"} 5', '_bucket{le="+Inf"} 5'], id="bound-is-none"),
        pytest.param(['_bucket{le="-Inf"} 5', '_bucket{le="+Inf"} 5'], id="endless-bound"),
        pytest.param(['_bucket{le="+Inf"} 5', "_sum +Inf", "_count 5"], id="endless-sum"),
    ],
)
def test_an_invalid_histogram_is_left_out(samples: list[str]) -> None:
    text = "sglang:num_running_reqs NaN\nsglang:num_queue_reqs 3\n"
    text += "".join(f"{TTFT}{sample}\n" for sample in samples)
    line = ServerLine(1, parse_metrics(text))
    assert line.look.histograms == {}
    travelled = msgspec.json.decode(msgspec.json.encode(line.sealed()), type=SamplerLine)
    assert isinstance(travelled, ServerLine)
    assert (travelled.look.running, travelled.look.queued) == (None, 3)


def test_accepted_drafts_by_either_engine() -> None:
    sglang = parse_metrics(
        "# TYPE sglang:spec_accept_length gauge\n"
        'sglang:spec_accept_length{dp_rank="0",tp_rank="0"} 2.5\n'
        'sglang:spec_accept_length{dp_rank="0",tp_rank="1"} 2.5\n'
        'sglang:spec_accept_length{dp_rank="1",tp_rank="2"} 3.5\n'
    )
    assert (sglang.accept_length, sglang.drafts) == (3.0, None)
    # As SGLang 0.5.23 prints it.
    counted = parse_metrics(
        "# TYPE sglang:spec_verify_calls_total counter\n"
        'sglang:spec_verify_calls_total{engine_type="unified",model_name="m"} 875.0\n'
        "# TYPE sglang:num_requests_total counter\n"
        'sglang:num_requests_total{is_streaming="false",model_name="m"} 1.0\n'
        'sglang:num_requests_total{is_streaming="true",model_name="m"} 22.0\n'
    )
    assert (counted.drafts, counted.finished) == (875.0, 23.0)
    vllm = parse_metrics(
        "# TYPE vllm:spec_decode_num_drafts_total counter\n"
        "vllm:spec_decode_num_drafts_total 100\n"
        "# TYPE vllm:spec_decode_num_accepted_tokens_total counter\n"
        "vllm:spec_decode_num_accepted_tokens_total 210\n"
    )
    assert (vllm.drafts, vllm.accepted, vllm.accept_length) == (100.0, 210.0, None)

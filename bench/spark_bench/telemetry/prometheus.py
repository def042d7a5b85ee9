"""Parse an engine's /metrics: SGLang's, vLLM's and llama.cpp's names for the same things.

An engine may report a metric under several label sets:

- tp_rank, pp_rank, moe_ep_rank: ranks that work on the same requests. Each reports the same figure
  (SGLang's --enable-metrics-for-all-schedulers), so only the lowest rank counts.
- everything else (dp_rank, vLLM's engine, model_name, endpoints): other requests, which are added
  up. Shares (cache hits, token usage) are averaged instead.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import inf, isfinite

from msgspec import Struct

from spark_bench.metrics.histograms import Histogram

SAME_REQUESTS = ("tp_rank", "pp_rank", "moe_ep_rank")
# Meaning → names; the first one present wins. SGLang 0.5.3 to 0.5.23, vLLM 0.6 to 0.11 (its gauges
# lost the gpu_ prefix, its ITL was called time per output token), llama.cpp server.
SUMS = {
    "running": ("sglang:num_running_reqs", "vllm:num_requests_running",
                "llamacpp:requests_processing"),
    "queued": ("sglang:num_queue_reqs", "vllm:num_requests_waiting", "llamacpp:requests_deferred"),
    "throughput": ("sglang:gen_throughput",),
    "generated": ("sglang:generation_tokens_total", "vllm:generation_tokens_total",
                  "llamacpp:tokens_predicted_total"),
    "prompted": ("sglang:prompt_tokens_total", "vllm:prompt_tokens_total",
                 "llamacpp:prompt_tokens_total"),
    "cache_hits": ("sglang:cached_tokens_total", "vllm:prefix_cache_hits_total",
                   "vllm:gpu_prefix_cache_hits_total", "llamacpp:prompt_tokens_cached_total"),
    "cache_queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "finished": ("sglang:num_requests_total",),
    "drafts": ("vllm:spec_decode_num_drafts_total", "sglang:spec_verify_calls_total"),
    "accepted": ("vllm:spec_decode_num_accepted_tokens_total",),
}  # fmt: skip
# llama.cpp counts a prompt's cached tokens separately.
UNCACHED = "llamacpp:prompt_tokens_total"
SHARES = {
    "token_usage": ("sglang:token_usage", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc",
                    "llamacpp:kv_cache_usage_ratio"),
    "cache_hit_rate": ("sglang:cache_hit_rate",),
    "accept_length": ("sglang:spec_accept_length",),
}  # fmt: skip
# TTFT, ITL, TPOT, E2E and time in the queue.
HISTOGRAMS = (
    ("sglang:time_to_first_token_seconds", "vllm:time_to_first_token_seconds"),
    ("sglang:inter_token_latency_seconds", "vllm:inter_token_latency_seconds",
     "vllm:time_per_output_token_seconds"),
    ("sglang:request_time_per_output_token_seconds",
     "vllm:request_time_per_output_token_seconds"),
    ("sglang:e2e_request_latency_seconds", "vllm:e2e_request_latency_seconds"),
    ("sglang:queue_time_seconds", "vllm:request_queue_time_seconds"),
)  # fmt: skip


class MetricsReading(Struct, frozen=True, omit_defaults=True):
    """An engine's /metrics at one moment; None: not reported.

    running, queued: requests
    throughput: tokens per second that it generates, by its own gauge
    generated, prompted: tokens since its start
    cache_hits, cache_queries: prompt tokens found in the prefix cache and looked up there, since
        its start; without cache_queries all prompted tokens were looked up
    cache_hit_rate: share of prompt tokens that came from the prefix cache, by SGLang's gauge
    token_usage: share of the KV cache in use
    finished: requests since its start; SGLang's alone
    drafts, accepted: steps with drafted tokens, and drafted tokens that were accepted (vLLM's
        alone), since its start
    accept_length: accepted drafts and one more token per step, by SGLang's gauge: a mean over its
        last log interval; 0 without speculative decoding
    histograms: those of HISTOGRAMS by the engine's own name, in seconds. An engine exposes one once
        it has observed something. None: this reading left them out
    """

    running: float | None = None
    queued: float | None = None
    throughput: float | None = None
    generated: float | None = None
    prompted: float | None = None
    cache_hits: float | None = None
    cache_queries: float | None = None
    token_usage: float | None = None
    cache_hit_rate: float | None = None
    finished: float | None = None
    drafts: float | None = None
    accepted: float | None = None
    accept_length: float | None = None
    histograms: dict[str, Histogram] | None = None


class _Sample(Struct, frozen=True):
    """One line of the text: ranks, labels without ranks, value."""

    ranks: tuple[int, ...]
    labels: Mapping[str, str]
    value: float


def parse_metrics(text: str, *, histograms: bool = True) -> MetricsReading:
    """Parse the exposition format; ValueError if it is invalid."""
    samples = _samples(text)
    values: dict[str, float | None] = {}
    for meaning, names in SUMS.items():
        values[meaning] = _total(_first(samples, names))
    if UNCACHED in samples:
        values["prompted"] = (values["prompted"] or 0.0) + (values["cache_hits"] or 0.0)
    for meaning, names in SHARES.items():
        shares = _first(samples, names)
        values[meaning] = sum(s.value for s in shares) / len(shares) if shares else None
    parsed = dict(_histograms(samples)) if histograms else None
    return MetricsReading(**values, histograms=parsed)


def _samples(text: str) -> dict[str, list[_Sample]]:
    """Samples by name; of those that differ only in rank, the lowest rank's."""
    from prometheus_client.parser import text_string_to_metric_families

    best: dict[str, dict[frozenset[tuple[str, str]], _Sample]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            given = (sample.labels.get(label, "0") for label in SAME_REQUESTS)
            ranks = tuple(int(rank) if rank.isdigit() else 0 for rank in given)
            labels = {k: v for k, v in sample.labels.items() if k not in SAME_REQUESTS}
            by_labels = best.setdefault(sample.name, {})
            key = frozenset(labels.items())
            if key not in by_labels or ranks < by_labels[key].ranks:
                by_labels[key] = _Sample(ranks, labels, sample.value)
    return {name: list(by_labels.values()) for name, by_labels in best.items()}


def _first(samples: Mapping[str, list[_Sample]], names: Iterable[str]) -> list[_Sample]:
    return next((samples[name] for name in names if name in samples), [])


def _total(samples: list[_Sample]) -> float | None:
    return sum(s.value for s in samples) if samples else None


def _histograms(samples: Mapping[str, list[_Sample]]) -> Iterator[tuple[str, Histogram]]:
    """Each with all label sets in one: cumulative counts of equal bounds add up."""
    for names in HISTOGRAMS:
        name = next((name for name in names if f"{name}_bucket" in samples), None)
        if name is None:
            continue
        buckets: dict[float, float] = {}
        for sample in samples[f"{name}_bucket"]:
            upper = float(sample.labels.get("le", "nan"))
            buckets[upper] = buckets.get(upper, 0.0) + sample.value
        histogram = Histogram(
            name=name,
            buckets=tuple(sorted(buckets.items())),
            sum=_total(samples.get(f"{name}_sum", [])) or 0.0,
            count=_total(samples.get(f"{name}_count", [])) or 0.0,
        )
        # Every bound and count is finite, except the last bound, which is infinite.
        *bounds, last = (upper for upper, _ in histogram.buckets)
        numbers = (*bounds, *buckets.values(), histogram.sum, histogram.count)
        if last == inf and all(map(isfinite, numbers)):
            yield name, histogram

"""The figures of one run, flat, by the names under which they are written."""

from msgspec import Struct, field

from spark_bench.metrics.steady import Steady


class Summary(Struct, frozen=True):
    """The figures of one run. Only whole answers count; nothing of a failed one is averaged in.

    Names are those of sglang 0.5.23 (benchmark/serving.py, the keys of `result`, and
    benchmark/goodput.py) where the meaning is the same. None: there is nothing to make it of.
    Percentiles interpolate linearly, std is the population's, as there; p99_9 is the 99.9th.

    duration: seconds from the first send (of any request) to the last token of a whole answer
    completed, failed, failures: whole answers; the others; the others by kind
    stopped_early: whole answers that are shorter than asked
    total_input_tokens: as the server counted them; where it didn't tell, as asked
    total_output_tokens: as the server counted them, hidden ones included
    concurrency: mean number in flight achieved: sum of E2E / duration
    peak_concurrency: the most in flight at one time, exactly (sglang's max_concurrent_requests
        counts whoever was there within a second)
    max_output_tokens_per_s: the best of the seconds since the first send
    itl_source: how the tokens of a delta were counted (`Request.counted_by`), by share of ITLs
    request_goodput: answers a second that met every objective; slo_attainment: their share of
        what was sent; slo_attainment_by_metric: the share of each objective
    steady: without ramp and tail; steady_reason: why there is none
    """

    duration: float | None = None
    completed: int = 0
    failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    stopped_early: int = 0
    total_input_tokens: int = 0
    total_output_tokens: int = 0
    request_throughput: float | None = None
    input_throughput: float | None = None
    output_throughput: float | None = None
    total_throughput: float | None = None
    concurrency: float | None = None
    peak_concurrency: int = 0
    max_output_tokens_per_s: float | None = None
    itl_source: dict[str, float] = field(default_factory=dict)
    goodput_slos_ms: dict[str, float] | None = None
    request_goodput: float | None = None
    slo_attainment: float | None = None
    slo_attainment_by_metric: dict[str, float] | None = None
    steady: Steady | None = None
    steady_reason: str = ""
    # send to first token
    mean_ttft_ms: float | None = None
    median_ttft_ms: float | None = None
    std_ttft_ms: float | None = None
    p90_ttft_ms: float | None = None
    p95_ttft_ms: float | None = None
    p99_ttft_ms: float | None = None
    p99_9_ttft_ms: float | None = None
    max_ttft_ms: float | None = None
    # from token to token: every gap of every request, pooled; see Gaps.itl_ms
    mean_itl_ms: float | None = None
    median_itl_ms: float | None = None
    std_itl_ms: float | None = None
    p90_itl_ms: float | None = None
    p95_itl_ms: float | None = None
    p99_itl_ms: float | None = None
    p99_9_itl_ms: float | None = None
    max_itl_ms: float | None = None
    # one mean per request: see Times.latency_ms
    mean_tpot_ms: float | None = None
    median_tpot_ms: float | None = None
    std_tpot_ms: float | None = None
    p90_tpot_ms: float | None = None
    p95_tpot_ms: float | None = None
    p99_tpot_ms: float | None = None
    p99_9_tpot_ms: float | None = None
    max_tpot_ms: float | None = None
    # send to last token (sglang's ends at [DONE]: that is e2e_done)
    mean_e2e_latency_ms: float | None = None
    median_e2e_latency_ms: float | None = None
    std_e2e_latency_ms: float | None = None
    p90_e2e_latency_ms: float | None = None
    p95_e2e_latency_ms: float | None = None
    p99_e2e_latency_ms: float | None = None
    p99_9_e2e_latency_ms: float | None = None
    max_e2e_latency_ms: float | None = None
    # send to first stream event, even if it has a role and no token
    mean_ttfc_ms: float | None = None
    median_ttfc_ms: float | None = None
    std_ttfc_ms: float | None = None
    p90_ttfc_ms: float | None = None
    p95_ttfc_ms: float | None = None
    p99_ttfc_ms: float | None = None
    p99_9_ttfc_ms: float | None = None
    max_ttfc_ms: float | None = None
    # send to first token that is not reasoning
    mean_ttfo_ms: float | None = None
    median_ttfo_ms: float | None = None
    std_ttfo_ms: float | None = None
    p90_ttfo_ms: float | None = None
    p95_ttfo_ms: float | None = None
    p99_ttfo_ms: float | None = None
    p99_9_ttfo_ms: float | None = None
    max_ttfo_ms: float | None = None
    # from one token-bearing delta to the next, however many tokens it carries
    mean_icl_ms: float | None = None
    median_icl_ms: float | None = None
    std_icl_ms: float | None = None
    p90_icl_ms: float | None = None
    p95_icl_ms: float | None = None
    p99_icl_ms: float | None = None
    p99_9_icl_ms: float | None = None
    max_icl_ms: float | None = None
    # from the intended send to the first token: coordinated omission can't hide in it
    mean_scheduled_ttft_ms: float | None = None
    median_scheduled_ttft_ms: float | None = None
    std_scheduled_ttft_ms: float | None = None
    p90_scheduled_ttft_ms: float | None = None
    p95_scheduled_ttft_ms: float | None = None
    p99_scheduled_ttft_ms: float | None = None
    p99_9_scheduled_ttft_ms: float | None = None
    max_scheduled_ttft_ms: float | None = None
    # from the intended send to the last token
    mean_scheduled_e2e_latency_ms: float | None = None
    median_scheduled_e2e_latency_ms: float | None = None
    std_scheduled_e2e_latency_ms: float | None = None
    p90_scheduled_e2e_latency_ms: float | None = None
    p95_scheduled_e2e_latency_ms: float | None = None
    p99_scheduled_e2e_latency_ms: float | None = None
    p99_9_scheduled_e2e_latency_ms: float | None = None
    max_scheduled_e2e_latency_ms: float | None = None
    # send to the end of the stream: sglang's e2e_latency
    mean_e2e_done_ms: float | None = None
    median_e2e_done_ms: float | None = None
    std_e2e_done_ms: float | None = None
    p90_e2e_done_ms: float | None = None
    p95_e2e_done_ms: float | None = None
    p99_e2e_done_ms: float | None = None
    p99_9_e2e_done_ms: float | None = None
    max_e2e_done_ms: float | None = None

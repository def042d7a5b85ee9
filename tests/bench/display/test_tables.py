"""What a user reads at the end, from whole results."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from result_samples import a_config, a_result
from spark_bench.client.audit import Audit, Spread
from spark_bench.display.result_lines import (
    bound_text,
    client_line,
    finding_lines,
    node_line,
    queue_line,
    queue_lines,
    reconciliation_lines,
    requests_line,
    steady_line,
)
from spark_bench.display.tables import (
    latencies,
    load_line,
    outcome_tables,
    result_tables,
    sweep_table,
)
from spark_bench.display.terminal import print_all
from spark_bench.load.sweep import Sweep
from spark_bench.metrics.bounds import Bound
from spark_bench.metrics.figures import Summary
from spark_bench.metrics.histograms import Bounded, Compared, Reconciliation, ServerFigure
from spark_bench.metrics.queues import Queue
from spark_bench.metrics.stalls import Prefills, Stall, Stalls
from spark_bench.metrics.steady import Steady
from spark_bench.options import RunOutcome
from spark_bench.results.config_schema import RateRamp, RunConfig
from spark_bench.results.schema import Lengths, NodeColumns, NodeFigures, Nodes, Range, Result

STEADY = Steady(
    rule="closed",
    start=2.1,
    end=70.0,
    output_tokens=5000,
    output_throughput=75.21,
    completed=30,
    request_throughput=0.6,
    concurrency=3.98,
    n_ttft=30,
    mean_ttft_ms=210.0,
    median_ttft_ms=205.4,
    p99_ttft_ms=300.2,
    mean_itl_ms=50.0,
    median_itl_ms=49.96,
    p99_itl_ms=61.04,
)


def replaced(thing: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(thing, **changes)


def closed(**changes: Any) -> Result:
    config = replaced(a_config(), dataset=None)
    result: Result = replaced(a_result(), config=config, **changes)
    return result


def at(concurrency: int, **figures: Any) -> Result:
    summary = replaced(a_result().summary, **figures)
    config = replaced(a_config(), dataset=None, concurrency=concurrency)
    result: Result = replaced(
        a_result(), config=config, summary=summary, status="complete", reason=""
    )
    return result


def printed(*things: Any) -> str:
    stream = io.StringIO()
    print_all(things, stream)
    return stream.getvalue()


def test_outcome_tables_show_the_whole_result() -> None:
    text = printed(
        *outcome_tables(RunOutcome((a_result(),), (Path("a/b.json"),), failed=1, total=10))
    )
    words = " ".join(text.split())
    assert words.startswith("partial Ctrl-C")
    assert "http://spark-1:30000, openai/gpt-oss-120b, chat, sglang 0.5.23" in words
    assert "9 of 10 completed in 0.232 s each" in words
    assert "1 http_500: the server answered with HTTP status 500; check" in words
    assert "(±1.50 at 95%)" in words
    assert "exact: receive times from the kernel, read 17.0 µs later (p99)" in words
    assert "all 9 prompts were as long as requested; 9 responses stopped early" in words
    assert "note One request failed." in words
    assert words.endswith("written to a/b.json")


@pytest.mark.parametrize("width", ["80", "60"])
def test_no_line_is_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setattr("spark_bench.display.terminal.PIPED_WIDTH", int(width))
    text = printed(*outcome_tables(RunOutcome((closed(),), (Path("x.json"),), failed=1, total=10)))
    assert max(map(len, text.splitlines())) <= int(width)
    assert "…" not in text
    assert "\x1b" not in text


def test_latencies_have_their_digits() -> None:
    rows = {
        line.split()[0]: line.split()[1:6]
        for line in printed(latencies(closed())).splitlines()
        if line.strip()
    }
    assert rows["TTFT"] == ["200", "200", "200", "200", "200"]
    assert rows["ITL"] == ["10.7", "10.0", "12.0", "12.0", "12.0"]


@pytest.mark.parametrize(
    ("config", "scheduled"),
    [
        pytest.param({"dataset": None}, False, id="closed-loop"),
        pytest.param({"dataset": None, "request_rate": 2.0}, True, id="rate"),
        pytest.param({}, True, id="trace"),
    ],
)
def test_scheduled_latencies_are_those_of_an_open_loop(
    config: dict[str, Any], scheduled: bool
) -> None:
    result = replaced(a_result(), config=replaced(a_config(), **config))
    assert ("TTFT, scheduled" in printed(*result_tables(result))) == scheduled


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({}, "closed loop, 4 in flight", id="closed"),
        pytest.param(
            {"rate_ramp": RateRamp(start=1, end=10, shape="linear")},
            "1 to 10 req/s (linear, Poisson), 4 in flight",
            id="ramp",
        ),
        pytest.param({"concurrency": None}, "closed loop, no limit in flight", id="no-limit"),
        pytest.param({"request_rate": 2.0}, "2 req/s (Poisson)", id="poisson"),
        pytest.param({"request_rate": 0.5, "burstiness": None}, "0.5 req/s (even)", id="even"),
        pytest.param({"request_rate": 2.0, "burstiness": 0.3}, "(gamma 0.3)", id="gamma"),
        pytest.param({"input_len": None}, "varying tokens in, 8 out", id="own-lengths"),
        pytest.param({"repeat": 3}, "10 prompts, 3 times,", id="repeats"),
    ],
)
def test_the_load_in_words(changes: dict[str, Any], words: str) -> None:
    config: RunConfig = replaced(a_config(), dataset=None, **changes)
    assert words in load_line(config)


def test_a_run_without_answers_is_explained() -> None:
    summary = Summary(failed=3, failures={"refused": 3})
    result = closed(summary=summary)
    lines = dict(finding_lines(result))
    assert requests_line(summary) == "none of 3 requests succeeded"
    assert lines["failed"].startswith("3 refused: nothing is listening at that address; start the")
    assert not {"tokens/s", "steady", "lengths"} & set(lines)
    assert "TTFT" not in printed(*result_tables(result))


def test_failures_by_kind_the_most_frequent_first() -> None:
    summary = replaced(a_result().summary, failures={"cut": 1, "timeout": 4})
    lines = [line for name, line in finding_lines(closed(summary=summary)) if name == "failed"]
    assert [line.split(":")[0] for line in lines] == ["4 timeout", "1 cut"]
    assert all("; " in line for line in lines)


def test_goodput_by_objective() -> None:
    summary = replaced(
        a_result().summary,
        goodput_slos_ms={"ttft": 500.0, "tpot": 50.0},
        request_goodput=1.234,
        slo_attainment=0.876,
        slo_attainment_by_metric={"ttft": 0.9, "tpot": 0.876},
    )
    assert dict(finding_lines(closed(summary=summary)))["goodput"] == (
        "1.23 req/s; 87.6% of requests met ttft ≤ 500 ms, tpot ≤ 50 ms (ttft 90%, tpot 88%)"
    )


def test_the_steady_part() -> None:
    assert steady_line(STEADY, "", {}) == (
        "from 2.10 to 70.0 s: 75.2 output tok/s, 3.98 in flight; "
        "p50/p99 TTFT 205/300 ms, ITL 50.0/61.0 ms"
    )
    nothing_sent = replaced(STEADY, median_ttft_ms=None, p99_ttft_ms=None)
    assert steady_line(nothing_sent, "", {}).endswith("; p50/p99 ITL 50.0/61.0 ms")
    assert "send more requests" in steady_line(None, "the tail began: send more requests", {})


def test_the_steady_part_has_the_bounds_that_its_digits_do_not_hold() -> None:
    bounds = {
        "steady.output_throughput": Bound(75.0, 75.21),
        "steady.concurrency": Bound(3.979, 3.981),
        "steady.p99_ttft_ms": Bound(250.04, 300.2),
        "steady.median_itl_ms": Bound(49.94, 49.96),
        "steady.p99_itl_ms": Bound(61.04, 61.2),
    }
    assert steady_line(STEADY, "", bounds) == (
        "from 2.10 to 70.0 s: 75.2 (≤0.21 off) output tok/s, 3.98 in flight; "
        "p50/p99 TTFT 205/300 (250 to 300) ms, ITL 50.0/61.0 (≤0.16 off) ms"
    )
    result = closed(summary=replaced(a_result().summary, steady=STEADY), bounds=bounds)
    assert dict(finding_lines(result))["steady"] == steady_line(STEADY, "", bounds)


@pytest.mark.parametrize(
    ("name", "value", "bound", "places", "text"),
    [
        pytest.param("p99_ttft_ms", 202.2, Bound(202.15, 202.2), 0, "", id="below-its-digits"),
        pytest.param("p99_ttft_ms", 202.2, Bound(202.1, 202.2), 1, "≤0.1 off", id="narrow"),
        pytest.param("p99_ttft_ms", 202.2, Bound(202.1, 203.4), None, "≤1.20 off", id="above"),
        pytest.param("p99_ttft_ms", 202.2, Bound(160.0, 202.2), None, "160 to 202", id="wide"),
        pytest.param("p99_itl_ms", 1.0, Bound(0.91, 1.0), 2, "≤0.09 off", id="0.1-ms-are-exact"),
        pytest.param("output_throughput", 1.0, Bound(0.91, 1.0), 2, "0.91 to 1.00", id="a-rate"),
        pytest.param("p99_itl_ms", 0.0, Bound(0.0, 0.0), None, "", id="zero"),
        pytest.param("p99_itl_ms", None, Bound(0.0, 1.0), None, "", id="no-figure"),
        pytest.param("p99_itl_ms", 3.0, None, None, "", id="no-bound"),
    ],
)
def test_what_is_shown_beside_a_figure_of_how_far_it_is_off(
    name: str, value: float | None, bound: Bound | None, places: int | None, text: str
) -> None:
    assert bound_text(name, value, bound, places) == text


@pytest.mark.parametrize(
    ("audit", "words"),
    [
        pytest.param(
            Audit(clock="process", verdict="approximate", reasons=("no kernel stamps", "slow")),
            "approximate: no kernel stamps; slow (receive times from this process",
            id="approximate",
        ),
        pytest.param(
            Audit(clock="process", transport="tls", lag_us=Spread(1, 90, 99)),
            "receive times from this process (tls), read 90.0 µs later (p99)",
            id="tls",
        ),
        pytest.param(
            Audit(clock="kernel", cpu_seconds=1.4, wall_seconds=5, peak_rss_bytes=64_000_000),
            "28% of a core, 64 MB",
            id="cost",
        ),
    ],
)
def test_the_client_audit_in_words(audit: Audit, words: str) -> None:
    assert words in client_line(msgspec.structs.replace(a_result(), audit=audit))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"tokenizer": None}, "approximate", id="no-tokenizer"),
        pytest.param({"checked": 0}, "not checked", id="no-usage"),
        pytest.param(
            {"differing": 2, "largest_difference": 13}, "2 of 9 prompts differ", id="differ"
        ),
        pytest.param(
            {"stopped_early": 0}, "all 9 prompts were as long as requested", id="as-asked"
        ),
    ],
)
def test_the_lengths_are_summarized_in_a_line(changes: dict[str, Any], words: str) -> None:
    lengths: Lengths = replaced(a_result().lengths, **changes)
    line = dict(finding_lines(closed(lengths=lengths)))["lengths"]
    assert words in line
    assert ("stopped early" in line) == bool(lengths.stopped_early)
    assert ("+13 tokens" in line) == (lengths.largest_difference == 13)


def test_stalls_are_listed_with_their_source() -> None:
    worst = Stall(at=61.0, ms=812.0, streams=4, running=4, whose="engine")
    stalls = Stalls(
        1.0, 5.0, {"engine": 2, "request": 1}, {"engine": 1000.0, "request": 40.0}, (worst,)
    )
    assert dict(finding_lines(closed(stalls=stalls)))["stalls"] == (
        "2 in all streams (the engine), 1,000 ms in total; 1 in one stream (its request), "
        "40.0 ms in total; the longest 812 ms, at 61 s"
    )


QUEUE = Queue(
    emitting=8,
    in_flight=24,
    verdict="queue",
    slots=8,
    slots_low=8,
    slots_high=8,
    wait_ms=1093.5,
    wait_low_ms=1093.5,
    wait_high_ms=1093.5,
    behind_ms=5.0,
    ttft_ms=1146.4,
)
NO_QUEUE: dict[str, Any] = {"slots": None, "slots_low": None, "slots_high": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "the server ran 8 of 24 in flight: 1,094 ms of 1,146 ms mean TTFT was its queue"),
        (
            {"wait_high_ms": 1099.8, "ttft_bounds": Bound(1100, 1146.4)},
            "the server ran 8 of 24 in flight: 1,094 ms (1,094 to 1,100) of 1,146 ms "
            "(1,100 to 1,146) mean TTFT was its queue",
        ),
        ({"slots_high": 9}, "the server ran 8 to 9 of 24 in flight"),
        (
            {**NO_QUEUE, "verdict": "unknown", "wait_ms": None},
            "8 of 24 in flight emitted at once: whether the others waited can't be told; at most "
            "1,094 ms of 1,146 ms mean TTFT",
        ),
        (
            {**NO_QUEUE, "verdict": "none", "emitting": 24, "wait_ms": 0.0},
            "none: all 24 in flight ran at once",
        ),
        (
            {**NO_QUEUE, "verdict": "none", "wait_ms": 0.0},
            "none found: 8 of 24 in flight emitted at once",
        ),
        ({**NO_QUEUE, "verdict": "none", "emitting": 1, "in_flight": 1}, "none"),
    ],
)
def test_the_queue_in_words(changes: dict[str, Any], words: str) -> None:
    line = queue_line(replaced(QUEUE, **changes))
    assert line.startswith(words)
    assert len(words) > 20 or line == words


def test_the_queue_stands_beside_the_servers_and_prompts_below() -> None:
    prefills = Prefills(149, 2929.0, 0.04, 20.57, 7.28, 0.646)
    own = a_result()
    repeats = tuple(
        replaced(
            repeat,
            queue=replaced(QUEUE, wait_ms=1093.5 + number),
            stalls=Stalls(prefills=prefills) if number else None,
        )
        for number, repeat in enumerate(own.repeats)
    )
    result = replaced(own, queue=repeats[1].queue, repeats=repeats)
    (about, words), (_, prompts) = queue_lines(result)
    assert (about, words[:19]) == ("queue", "the server ran 8 of")
    assert prompts == (
        "reading prompts of other requests causes 65% of p99 ITL: 20.6 ms, 7.28 ms without"
    )
    assert list(queue_lines(closed())) == []


def test_reconciliation_lines_split_the_latency() -> None:
    bounded = Bounded(100.0, 200.0, 150.0)
    own = ServerFigure("sglang:x", 9, 149.0, bounded, bounded, bounded)
    both = Compared(9, 150.0, 150.0, 160.0, own, difference=1.0, share=0.01)
    alone = Compared(9, 10.0, 10.0, 12.0, None, note="the server has none")
    reconciliation = Reconciliation(both, alone, both, own, "", 20.0, 129.0, 1.0)
    assert list(reconciliation_lines(reconciliation)) == [
        "mean TTFT 150 ms: 20.0 ms in the queue, 129 ms in the engine, "
        "1.00 ms in network and client",
        "mean E2E 150 ms, by the server's clock 149 ms",
    ]


def test_a_node_line_shows_power_and_tokens_per_joule() -> None:
    columns = NodeColumns(**dict.fromkeys(NodeColumns.__struct_fields__, ()))
    node = NodeFigures(
        name="spark-1",
        energy_joules=900.0,
        power_w=Range(mean=61.2, max=88.0),
        temperature_c=None,
        memory_used_bytes=Range(mean=1.0, max=96 * 2.0**30),
        received_bytes=0,
        sent_bytes=3_200_000_000,
        samples=columns,
    )
    assert node_line(node) == (
        "power 61.2 on average, 88 W at peak; host memory used 96 GiB; 3.20 GB sent over RDMA"
    )
    text = printed(*result_tables(closed(nodes=Nodes(tokens_per_joule=0.0812, nodes=(node,)))))
    assert "0.0812 output tokens per joule" in text


def test_a_sweep_has_a_row_per_load_with_the_knee_marked() -> None:
    results = [
        at(load, output_throughput=rate, mean_e2e_latency_ms=ms, failed=0, failures={})
        for load, rate, ms in [
            (8, 100.0, 800.0),
            (1, 20.0, 100.0),
            (2, 40.0, 100.0),
            (4, 80.0, 100.0),
        ]
    ]
    text = printed(sweep_table(results, Sweep("concurrency", (1, 2, 4, 8))))
    rows = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["1", "2", "4", "8"]
    assert [row[-1] == "knee" for row in rows] == [False, False, True, False]
    assert "The knee is at 4: beyond" in text
    wide = {"output_throughput": Bound(40, 100), "mean_e2e_latency_ms": Bound(100, 140)}
    unsure = [
        replaced(
            each,
            bounds=wide
            if each.config.concurrency == 4
            else {
                "output_throughput": Bound(*[each.summary.output_throughput] * 2),
                "mean_e2e_latency_ms": Bound(*[each.summary.mean_e2e_latency_ms] * 2),
            },
        )
        for each in results
    ]
    text = printed(sweep_table(unsure, Sweep("concurrency", (1, 2, 4, 8))))
    assert "The knee is at 4 (2 to 4 by the bounds of the figures)" in text
    rows = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
    assert [row[8] for row in rows] == ["≤0%", "≤0%", "≤50.0%", "≤0%"]
    assert max(map(len, text.splitlines())) <= 80


def test_a_sweep_says_at_which_loads_the_client_is_not_exact() -> None:
    audit = replaced(a_result().audit, verdict="approximate", reasons=("the client was late", "b"))
    results = (at(1), replaced(at(2), audit=audit), replaced(at(4), audit=audit))
    text = printed(
        *outcome_tables(RunOutcome(results, (), failed=0, total=30), Sweep("concurrency"))
    )
    assert "client      at 2, at 4: approximate: the client was late; 1 more in its file" in text


def test_a_sweep_without_a_knee_says_so() -> None:
    results = [
        at(load, output_throughput=20.0 * load, mean_e2e_latency_ms=100.0) for load in (1, 2)
    ]
    text = printed(sweep_table(results, Sweep("concurrency", (1, 2), failed=1.0)))
    assert "knee" not in text.replace("No knee", "")
    assert max(map(len, text.splitlines())) <= 80
    assert "No knee yet" in text


def test_a_sweep_that_failed_says_why_it_ended() -> None:
    results = [at(1, failed=5, completed=5)]
    text = printed(
        *outcome_tables(RunOutcome(tuple(results), (), failed=5, total=10), Sweep("concurrency"))
    )
    assert "50.0% of the requests failed at 1" in text


def test_a_sweep_that_was_stopped_blames_no_load() -> None:
    stopped = replaced(at(2, failed=5, completed=5), status="partial", reason="stopped by Ctrl-C")
    results = [at(1, failed=0, completed=5, failures={}), stopped]
    text = printed(sweep_table(results, Sweep("concurrency")))
    assert "Ended: stopped by Ctrl-C." in text
    assert "of the requests failed" not in text


def test_singular_and_plural_are_correct() -> None:
    text = load_line(replaced(a_config(), dataset=None, num_prompts=1, repeat=1))
    assert text.startswith("1 prompt, ")

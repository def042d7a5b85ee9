"""What a node's lines mean, how it is reached, and how much energy a run took."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st
from spark_bench.metrics.histograms import Histogram
from spark_bench.project import ProjectNode, ProjectSsh
from spark_bench.telemetry import readings, sampling
from spark_bench.telemetry.messages import NodeLine, NodeSample, NoteLine, ServerLine
from spark_bench.telemetry.prometheus import MetricsReading
from spark_bench.telemetry.readings import Extent, NodeSamples

S = 1_000_000_000
GB10 = ["mem 131334144 120000000", "net 100 50", "net 1 2", "gpu 41.20, 62, 2418, 96, [N/A]"]


# ---- a round of the loop


def test_a_gb10_sample_is_parsed() -> None:
    sample, blind = sampling.parse_sample(GB10, 7)
    assert blind == ""
    assert sample == NodeSample(
        at_ns=7,
        power_w=41.2,
        temperature_c=62.0,
        clock_mhz=2418.0,
        utilization=96.0,
        memory_total_bytes=131334144 * 1024,
        memory_available_bytes=120000000 * 1024,
        received_bytes=404,
        sent_bytes=208,
    )


def test_several_gpus_draw_their_power_together() -> None:
    sample, _ = sampling.parse_sample(
        ["gpu 300, 60, 1980, 10, 1024", "gpu 200, 70, 1000, 90, 1024"], 0
    )
    assert (sample.power_w, sample.temperature_c, sample.clock_mhz) == (500.0, 70.0, 1980.0)
    assert sample.gpu_memory_bytes == 2 * 1024**3


def test_output_of_a_login_shell_is_not_a_sample() -> None:
    sample, _ = sampling.parse_sample(["Welcome to DGX OS", "", *GB10], 7)
    assert sample == sampling.parse_sample(GB10, 7)[0]


def test_a_node_without_a_gpu_says_why() -> None:
    sample, blind = sampling.parse_sample(["mem 4 2", "nogpu it has no nvidia-smi"], 0)
    assert blind == "it has no nvidia-smi"
    assert (sample.power_w, sample.memory_total_bytes) == (None, 4096)


@pytest.mark.parametrize(
    "field, value",
    [
        pytest.param(" 3.74", 3.74, id="plain"),
        pytest.param("3.74 W", 3.74, id="with-its-unit"),
        pytest.param("0 %", 0.0, id="zero"),
        pytest.param("[N/A]", None, id="bracketed"),
        pytest.param("N/A", None, id="bare"),
        pytest.param("Not Supported", None, id="words"),
        pytest.param("[Unknown Error]", None, id="error"),
        pytest.param("", None, id="empty"),
    ],
)
def test_nvidia_smis_figures(field: str, value: float | None) -> None:
    assert sampling.parse_figure(field) == value


# ---- the way to a node


def test_ssh_uses_the_listings_values_and_never_prompts() -> None:
    to = ProjectSsh("spark-1", "nvidia", 2222, "/k/id", "/c/config", "/h/known hosts", "yes")
    words = sampling.sampling_argv(ProjectNode("spark-1", ssh=to), 0.5)
    assert words is not None
    assert words[0] == "ssh"
    for option in (
        "BatchMode=yes",
        "ControlMaster=no",
        "StrictHostKeyChecking=yes",
        'UserKnownHostsFile="/h/known hosts"',
    ):
        assert words[words.index(option) - 1] == "-o"
    flags = dict(pairwise(words))
    assert [flags[f] for f in ("-F", "-i", "-l", "-p")] == ["/c/config", "/k/id", "nvidia", "2222"]
    assert words[-3:-1] == ["--", "spark-1"]
    assert words[-1].endswith(" sh 0.5")


def test_values_that_the_listing_lacks_are_left_to_ssh() -> None:
    words = sampling.sampling_argv(ProjectNode("spark-1", ssh=ProjectSsh("spark-1")), 1)
    assert words is not None
    assert not {"-F", "-i", "-l", "-p"} & set(words)
    assert not any("KnownHosts" in w or "StrictHostKey" in w for w in words)


def test_this_machine_needs_no_ssh() -> None:
    words = sampling.sampling_argv(ProjectNode("@local", here=True, ssh=ProjectSsh("x")), 1)
    assert words is not None
    assert words[0] == "sh"


def test_a_node_of_another_connector_cant_be_sampled() -> None:
    assert sampling.sampling_argv(ProjectNode("@docker/x"), 1) is None


# ---- energy


def test_energy_is_the_area_below_the_power_within_the_window() -> None:
    points = [(0, 10.0), (2 * S, 30.0), (4 * S, 10.0)]
    assert readings.integral(points, 0, 4 * S) == pytest.approx(80.0)
    assert readings.integral(points, S, 3 * S) == pytest.approx(25.0 + 25.0)


def test_power_is_constant_before_the_first_and_after_the_last_sample() -> None:
    assert readings.integral([(5 * S, 10.0)], 4 * S, 7 * S) == pytest.approx(30.0)
    assert readings.integral([(0, 10.0), (S, 20.0)], 2 * S, 3 * S) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("ats", "expected"),
    [
        pytest.param((0, 4), False, id="before and after"),
        pytest.param((0, 2, 4), True, id="one within"),
    ],
)
def test_a_run_between_two_samples_has_no_energy(ats: tuple[int, ...], expected: bool) -> None:
    samples = [NodeSample(at_ns=at * S, power_w=4.0) for at in ats]
    node = readings.node_samples("spark-1", samples, 1 * S, 3 * S)
    assert (node.energy_joules, node.power_w) == (
        (8.0, Extent(4.0, 4.0)) if expected else (None, None)
    )


def test_energy_bridges_gaps_and_is_none_without_samples() -> None:
    assert readings.integral([(0, 10.0), (S, None), (2 * S, 10.0)], 0, 2 * S) == pytest.approx(20.0)
    assert readings.integral([(0, None)], 0, S) is None
    assert readings.integral([], 0, S) is None
    assert readings.integral([(0, 10.0)], S, S) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.floats(0, 500)), min_size=1, unique_by=lambda p: p[0]
    ),
    st.integers(-10, 110),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_the_energy_of_two_windows_is_that_of_both_and_lies_between_the_extremes(
    points: list[tuple[int, float]], begin: int, first: int, second: int
) -> None:
    samples = [(at * S, watts) for at, watts in sorted(points)]
    middle, end = begin + first, begin + first + second
    whole = readings.integral(samples, begin * S, end * S)
    parts = [
        readings.integral(samples, begin * S, middle * S),
        readings.integral(samples, middle * S, end * S),
    ]
    assert whole is not None
    assert math.isclose(whole, sum(p or 0 for p in parts), rel_tol=1e-9, abs_tol=1e-6)
    watts = [w for _, w in points]
    assert min(watts) - 1e-6 <= whole / (end - begin) <= max(watts) + 1e-6


def test_tokens_per_joule_are_of_all_nodes_or_of_none() -> None:
    samples = [NodeSamples("a", energy_joules=100.0), NodeSamples("b", energy_joules=300.0)]
    assert readings.tokens_per_joule(800, samples) == pytest.approx(2.0)
    assert readings.tokens_per_joule(800, [*samples, NodeSamples("c")]) is None
    assert readings.tokens_per_joule(800, []) is None
    assert readings.tokens_per_joule(800, [NodeSamples("a", energy_joules=0.0)]) is None


# ---- the whole server's side


def test_the_mean_is_over_time_and_the_maximum_over_samples() -> None:
    points = [(0, 0.0), (S, 10.0), (9 * S, 10.0), (20 * S, 99.0)]
    assert readings.extent(points, 0, 9 * S) == Extent(pytest.approx(85.0 / 9), 10.0)
    assert readings.extent([(0, 4.0)], 5 * S, 6 * S) == Extent(4.0, 4.0)


@pytest.mark.parametrize("count", [0, 1, 600, 601, 7200])
def test_thinning_keeps_the_ends_and_at_most_the_limit(count: int) -> None:
    samples = readings.thin_samples(range(count))
    assert len(samples) == min(count, 600)
    assert list(samples) == sorted(set(samples))
    if count:
        assert (samples[0], samples[-1]) == (0, count - 1)


def ttft(count: float) -> Histogram:
    return Histogram("sglang:time_to_first_token_seconds", ((0.1, count),), count / 20, count)


def server(at: int, look: MetricsReading) -> ServerLine:
    return ServerLine(at * S, look)


def test_the_servers_side_of_a_run() -> None:
    name = "sglang:time_to_first_token_seconds"
    lines = [
        server(0, MetricsReading(running=0, queued=0, generated=100, histograms={name: ttft(3)})),
        NodeLine("a", NodeSample(0, power_w=10, received_bytes=1000)),
        server(1, MetricsReading(running=4, queued=2, generated=160)),
        NoteLine("b was lost"),
        NodeLine("a", NodeSample(2 * S, power_w=10, received_bytes=5000)),
        server(2, MetricsReading(running=4, queued=0, generated=200, histograms={name: ttft(9)})),
    ]
    side = readings.server_side(lines, 0, 2 * S)
    assert [s.throughput for s in side.samples] == [None, pytest.approx(60.0), 40.0]
    assert (side.before[name].count, side.after[name].count) == (3, 9)
    assert side.generated_tokens == 100
    assert side.queued == Extent(1.0, 2.0)
    assert side.notes == ("b was lost",)
    (node,) = side.nodes
    assert (node.name, node.energy_joules, node.received_bytes) == ("a", 20.0, 4000)


def test_a_restarted_server_has_no_counts() -> None:
    lines = [server(0, MetricsReading(generated=100)), server(1, MetricsReading(generated=5))]
    side = readings.server_side(lines, 0, S)
    assert side.generated_tokens is None
    assert [s.throughput for s in side.samples] == [None, None]


def test_a_fresh_server_shows_its_histograms_only_after_the_run() -> None:
    name = "sglang:time_to_first_token_seconds"
    lines = [
        server(0, MetricsReading(histograms={})),
        server(1, MetricsReading(histograms={name: ttft(3)})),
    ]
    side = readings.server_side(lines, 0, S)
    assert (side.before, side.after[name].count) == ({}, 3)


def test_histograms_of_one_side_alone_are_none() -> None:
    name = "sglang:time_to_first_token_seconds"
    side = readings.server_side([server(0, MetricsReading(histograms={name: ttft(3)}))], 0, S)
    assert (side.before, side.after) == ({}, {})


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param(
            [
                MetricsReading(cache_hits=10, cache_queries=100),
                MetricsReading(cache_hits=40, cache_queries=150),
            ],
            id="hits-and-queries",
        ),
        pytest.param(
            [
                MetricsReading(cache_hits=10, prompted=100),
                MetricsReading(cache_hits=40, prompted=150),
            ],
            id="hits-and-prompts",
        ),
        pytest.param(
            [MetricsReading(cache_hit_rate=0.1), MetricsReading(cache_hit_rate=0.6)],
            id="gauge-alone",
        ),
    ],
)
def test_cache_hits_are_a_share_of_the_runs_prompt_tokens(looks: list[MetricsReading]) -> None:
    side = readings.server_side([server(i, look) for i, look in enumerate(looks)], 0, S)
    assert side.cache_hit_rate == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("readings_", "mean"),
    [
        pytest.param(
            [{"drafts": 100.0, "accepted": 50.0}, {"drafts": 200.0, "accepted": 300.0}],
            3.5,
            id="counters",
        ),
        pytest.param(
            [
                {"drafts": 100.0, "generated": 300.0, "finished": 10.0, "accept_length": 9.0},
                {"drafts": 1100.0, "generated": 2714.0, "finished": 24.0, "accept_length": 9.0},
            ],
            2.4,
            id="verify calls",
        ),
        pytest.param(
            [
                {"generated": 0.0, "finished": 0.0},
                {"drafts": 50.0, "generated": 200.0, "finished": 5.0, "accept_length": 3.0},
                {"drafts": 60.0, "generated": 300.0, "finished": 6.0, "accept_length": 3.0},
            ],
            3.0,
            id="a counter without a start",
        ),
        pytest.param([{"accept_length": 2.0}, {"accept_length": 3.0}], 2.5, id="gauge"),
        pytest.param([{"accept_length": 0.0}, {"accept_length": 3.0}], 3.0, id="late gauge"),
        pytest.param([{"accept_length": 0.0}, {"accept_length": 0.0}], None, id="no speculation"),
        pytest.param([{"drafts": 7.0, "accepted": 5.0}] * 2, None, id="no steps"),
        pytest.param([{}, {}], None, id="no metrics"),
    ],
)
def test_the_engines_own_accepted_length(
    readings_: list[dict[str, float]], mean: float | None
) -> None:
    looks = [server(i + 1, MetricsReading(**each)) for i, each in enumerate(readings_)]
    assert readings.server_side(looks, 0, 2 * S).accept_length == mean

"""What forbids a comparison, what is only shown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from compare_samples import a_file
from result_samples import a_provenance
from spark_bench.client.audit import Audit
from spark_bench.compare import metric_names
from spark_bench.compare.comparison import (
    FREE,
    SHOWN,
    CantCompare,
    Difference,
    by_value,
    compare_runs,
    find_differences,
    refuse_differences,
    values,
)
from spark_bench.compare.runs import ComparedRun, load_runs
from spark_bench.history.entry import EntryFigure, collect_results
from spark_bench.metrics.accepted import Accepted, CoursePart
from spark_bench.results.config_schema import (
    Conversations,
    Dataset,
    LongPrompts,
    RateRamp,
    RunConfig,
)

CHANGED: dict[str, Any] = {
    "profile": "short",
    "endpoint": "generate",
    "num_prompts": 20,
    "input_len": 256,
    "output_len": None,
    "request_rate": 2.0,
    "rate_ramp": RateRamp(start=1.0, end=4.0, shape="linear"),
    "burstiness": None,
    "concurrency": None,
    "ramp": 1.0,
    "duration": 60.0,
    "seed": 8,
    "cache": "hit",
    "timeout": 60.0,
    "ignore_eos": False,
    "temperature": 0.7,
    "extra_body": {"top_p": 0.1},
    "conversations": Conversations(turns=2),
    "dataset": Dataset(format="trace", file="day.jsonl", sha256="1" * 64),
    "depth": 4096,
    "depth_cached": True,
    "long": LongPrompts(every=4, input_len=4096, output_len=16),
}


def two(folder: Path, **changes: Any) -> list[ComparedRun]:
    return load_runs([str(a_file(folder, "a", 1.0)), str(a_file(folder, "b", 1.0, **changes))])


def fields(entries: list[Difference]) -> list[str]:
    return [each.field for each in entries]


def test_runs_alike_differ_in_nothing(tmp_path: Path) -> None:
    assert find_differences(two(tmp_path, command=("other",), repeat=5, overrides={})) == ([], [])


@pytest.mark.parametrize("field", CHANGED)
def test_settings_that_decide_bytes_and_times_must_match(tmp_path: Path, field: str) -> None:
    runs = two(tmp_path, **{field: CHANGED[field]})
    forbidding, explaining = find_differences(runs)
    assert forbidding and not explaining
    with pytest.raises(CantCompare, match=field) as caught:
        refuse_differences(forbidding, runs)
    assert caught.value.exit_code == 2
    assert "--anyway" in caught.value.message


def test_every_other_field_is_named_as_free_or_shown() -> None:
    """A new one must be the same until somebody decides otherwise; then it is tested above."""
    assert set(RunConfig.__struct_fields__) - {*FREE, *SHOWN} == {*CHANGED}


def test_a_refusal_says_what_each_run_has(tmp_path: Path) -> None:
    runs = two(tmp_path, seed=8, concurrency=None)
    with pytest.raises(CantCompare) as caught:
        refuse_differences(find_differences(runs)[0], runs)
    assert "seed: 7 (A), 8 (B)" in caught.value.message
    assert "concurrency: 4 (A), none (B)" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"status": "partial"}, "status: complete (A), partial (B)", id="partial"),
        pytest.param(
            {"audit": Audit(clock="kernel", verdict="approximate", reasons=("late",))},
            "client: exact (A), approximate (B)",
            id="exactness",
        ),
    ],
)
def test_partial_and_inexact_runs_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    runs = two(tmp_path, **changes)
    with pytest.raises(CantCompare) as caught:
        refuse_differences(find_differences(runs)[0], runs)
    assert message in caught.value.message


def test_two_partial_runs_are_refused_too(tmp_path: Path) -> None:
    a = a_file(tmp_path, "a", 1.0, status="partial")
    b = a_file(tmp_path, "b", 1.0, status="partial")
    forbidding, _ = find_differences(load_runs([str(a), str(b)]))
    assert fields(forbidding) == ["status"]


def test_runs_of_one_group_must_be_alike_too(tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    a_file(group, "a", 1.0)
    a_file(group, "b", 1.0, seed=8)
    runs = load_runs([str(a_file(tmp_path, "c", 1.0)), str(group)])
    [seed] = find_differences(runs)[0]
    assert values(seed, runs) == "7 (A), 7 and 8 (B)"


def test_possible_explanations_are_shown_per_field(tmp_path: Path) -> None:
    old = a_provenance()
    assert old.deployment
    rank = msgspec.structs.replace(old.deployment.ranks[0], image_id="sha256:99", spec="cd" * 32)
    new = msgspec.structs.replace(
        old,
        client=msgspec.structs.replace(old.client, version="0.2.0"),
        machine=msgspec.structs.replace(
            old.machine, kernel="6.14", load_average=(9.0, 1.0, 1.0), clock_source="tsc"
        ),
        server=msgspec.structs.replace(
            old.server, version="0.6.0", settings={"tp_size": 1, "mem_fraction_static": 0.8}
        ),
        deployment=msgspec.structs.replace(
            old.deployment, revision="e" * 40, launch={"tp": 1, "env": {"NCCL": "1"}}, ranks=(rank,)
        ),
    )
    runs = two(tmp_path, provenance=new, model="other", url="http://b", slo={"ttft": 9.0})
    forbidding, explaining = find_differences(runs)
    assert not forbidding
    assert set(fields(explaining)) == {
        *("model", "url", "slo.ttft", "client.version", "machine.kernel"),
        *("machine.clock_source", "server.version"),
        *("server.settings.tp_size", "server.settings.disable_cuda_graph", "deployment.revision"),
        *("deployment.launch.tp", "deployment.launch.env.NCCL", "deployment.ranks[0].image_id"),
        "deployment.ranks[0].spec",
        *(f"deployment.ranks[1].{name}" for name in msgspec.to_builtins(rank)),
    }
    launch = next(each for each in explaining if each.field == "deployment.launch.tp")
    assert launch.values == ((2,), (1,))
    graph = next(each for each in explaining if each.field.endswith("disable_cuda_graph"))
    assert values(graph, runs) == "no (A), none (B)"


def test_random_differences_explain_nothing(tmp_path: Path) -> None:
    """A machine's load average, and the seed that an engine draws when it starts."""
    old = a_provenance()
    assert old.deployment and old.server
    new = msgspec.structs.replace(
        old,
        machine=msgspec.structs.replace(old.machine, load_average=(9.0, 3.0, 3.0)),
        server=msgspec.structs.replace(
            old.server, settings={**old.server.settings, "random_seed": 987654321}
        ),
        deployment=msgspec.structs.replace(
            old.deployment, launch={**old.deployment.launch, "random_seed": 1}
        ),
    )
    assert find_differences(two(tmp_path, provenance=new)) == ([], [])


def test_token_counting_and_warmup_may_explain_a_difference(
    tmp_path: Path,
) -> None:
    """Not how many requests it took: that is another number each time."""
    assert find_differences(two(tmp_path, warmup=96)) == ([], [])
    forbidding, explaining = find_differences(two(tmp_path, warmup=0, count_tokens="usage"))
    assert not forbidding and fields(explaining) == ["warmup", "count_tokens"]


def test_many_runs_with_one_value_are_counted(tmp_path: Path) -> None:
    paths = [str(a_file(tmp_path, f"{n}", 1.0, model=f"m{n // 5}")) for n in range(6)]
    runs = load_runs(paths)
    [model] = find_differences(runs)[1]
    assert list(by_value(model, runs)) == [("A, B, C and 2 more", "m0"), ("F", "m1")]


def test_a_refusal_counts_many_values(tmp_path: Path) -> None:
    runs = load_runs([str(a_file(tmp_path, f"{n}", 1.0, seed=n)) for n in range(4)])
    with pytest.raises(CantCompare, match=r"differ in seed: 4 different values\. Measure again"):
        refuse_differences(find_differences(runs)[0], runs)


def test_accepted_lengths_are_compared_where_both_runs_claim_them(tmp_path: Path) -> None:
    claimed = Accepted(
        unclear="",
        source="usage",
        mean=2.5,
        std=0.5,
        low=2.0,
        high=3.0,
        steps=(0, 50, 50),
        left_out=0,
        course=(CoursePart(0, 100, 2.5),),
        engine=None,
    )
    fewer = msgspec.structs.replace(claimed, mean=2.0)
    unclear = msgspec.structs.replace(claimed, unclear="steps come together")
    paths = [
        str(a_file(tmp_path, name, 100.0, accepted=accepted))
        for name, accepted in (("a", claimed), ("b", fewer), ("c", unclear))
    ]
    matrix = compare_runs(paths, "accepted").matrix
    assert matrix.names == ("accepted.mean",)
    assert matrix.values[0, :2].tolist() == pytest.approx([2.5, 2.0])
    assert matrix.percent[0, 1] == pytest.approx(-20.0)
    assert math.isnan(matrix.values[0, 2])
    assert metric_names.better("accepted.mean") == "higher"
    entries = collect_results(paths).entries
    assert [each.figures.get("accepted.mean") for each in entries] == [
        EntryFigure(2.5),
        EntryFigure(2.0),
        None,
    ]

"""What `spark-bench all` reads from logs, listings and results: statuses, rows, tables, changes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec.structs import asdict, replace
from result_samples import a_result
from simulated_engine import Engine, Load, simulate
from spark_bench.errors import BadInput
from spark_bench.metrics.bounds import Bound
from spark_bench.metrics.queues import queue
from spark_bench.metrics.times import TimedRequests
from spark_bench.options import FailureLimit
from spark_bench.project import ProjectListing, ProjectModel, ProjectNode, ProjectRank
from spark_bench.results.schema import Result
from spark_bench.results.suite_results import (
    CaseRow,
    SuiteLoad,
    SuiteResults,
    encode_results,
)
from spark_bench.secret import Secret
from spark_bench.suite import case_run, child, deploy
from spark_bench.suite.child import ChildExit, SuiteProgress
from spark_bench.suite.deploy import (
    DRAFT,
    AskProject,
    DeployReport,
    deploy_failure,
    read_report,
    served_before,
    serving_problem,
)
from spark_bench.suite.job import (
    JobCase,
    SuiteJob,
    job_changes,
    read_job,
    read_results,
    refuse_changed,
)
from spark_bench.suite.plan import Case, Feasibility
from spark_bench.suite.suite_markdown import published_rows
from spark_bench.suite.suite_rows import CaseFailure, case_row, mark_pareto
from spark_bench.suite.suite_tables import (
    by_throughput,
    by_ttft,
    matrix_rows,
    plain_table,
    render_summary,
    rows_csv,
)
from suite_samples import a_row, listing, suite_options

from cluster.findings import Finding, error, warning
from cluster.reports import outcome
from cluster.reports.outcome import Outcome, outcome_finding

CASE = Case(name="a", model="org/a", short="a", served="org/a", nodes=2, tp=2, pp=1)


def ended(code: int | None, text: str = "") -> ChildExit:
    return ChildExit(code, text.splitlines(), 1.0)


# ---- a deploy's report


def report(outcome: str, *findings: Finding) -> DeployReport:
    """As the project's deploy writes it, read by spark-bench."""
    problems = tuple(map(outcome_finding, findings))
    document = Outcome(outcome=outcome, step="switch", findings=problems)  # type: ignore[arg-type]
    return msgspec.json.decode(msgspec.json.encode(document), type=DeployReport)


GONE = error("sglang-worker-1 has ended", "spark-02", key="rank-ended")
MEMORY = error("the GPU's memory ran out", "spark-02", "--data mem_fraction=0.75", key="gpu-memory")


@pytest.mark.parametrize(
    "code, read, expected",
    [
        pytest.param(0, report("converged"), None, id="converged"),
        pytest.param(0, report("changed", warning("slow", key="slow")), None, id="changed"),
        pytest.param(
            1,
            report(
                "refused",
                error("qwen72b does not fit", cure="at least 2 nodes", key="model-too-large"),
            ),
            ("CONFIG_FAILED", "qwen72b does not fit -> at least 2 nodes"), id="refused",
        ),
        pytest.param(
            1, report("failed", GONE, MEMORY, warning("the clock is off", key="clock-off")),
            ("STARTUP_FAILED", "spark-02: sglang-worker-1 has ended; spark-02: the GPU's memory "
             "ran out -> --data mem_fraction=0.75"), id="failed",
        ),
        pytest.param(
            0, report("interrupted", error("stopped by Ctrl-C", key="interrupted")),
            ("STARTUP_FAILED", "stopped by Ctrl-C"), id="interrupted-with-exit-code-0",
        ),
        pytest.param(
            1, report("failed"),
            ("STARTUP_FAILED", "the deploy ended as failed, with exit code 1: NameError: heads"),
            id="no-findings",
        ),
        pytest.param(
            3, None,
            ("STARTUP_FAILED", "the deploy ended with exit code 3 and left no report: "
             "NameError: heads"), id="no-report",
        ),
        pytest.param(
            None, report("interrupted"),
            ("STARTUP_FAILED", "not served within 15 min (--startup-timeout, not counting "
             "downloads): NameError: heads"), id="late",
        ),
    ],
)  # fmt: skip
def test_a_deploy_log_gives_its_failure(
    code: int | None, read: DeployReport | None, expected: tuple[str, str] | None
) -> None:
    log = "--> Loading config...\n    [spark-1] NameError: heads\n"
    output = ended(code, log if code is None else log.replace("[spark-1] ", ""))
    assert deploy_failure(output, read, 900) == (CaseFailure(*expected) if expected else None)  # type: ignore[arg-type]


def test_a_report_that_is_missing_cut_or_of_another_version_is_none(tmp_path: Path) -> None:
    file = tmp_path / "deploy.json"
    assert read_report(file) is None
    file.write_text('{"version": 1, "outcome": "chan')
    assert read_report(file) is None
    file.write_text('{"version": 2, "outcome": "changed"}')
    assert read_report(file) is None
    file.write_text('{"version": 1, "outcome": "changed", "step": "end", "new_field": 1}')
    assert read_report(file) == DeployReport(1, "changed", "end")


def test_outcomes_and_steps_match_the_projects() -> None:
    assert {*deploy.SERVES, "refused"} <= {*get_args(outcome.Result)}
    assert {*deploy.TRANSFERS} <= {*get_args(outcome.Step)}
    assert Outcome.__struct_fields__[:3] == ("outcome", "step", "version")


def test_the_command_line_of_a_deploy() -> None:
    data = {"model": "org/a", "tensor_parallel": 2, "tool_call_parser": "none"}
    assert deploy.deploy_argv("/p/pyinfra", Path("i.py"), data, Path("/f/deploy.json")) == [
        *("/p/pyinfra", "-y", "i.py", "deploy.py", "--data", "rollback=false"),
        *("--data", "model=org/a"),
        *("--data", "tensor_parallel=2", "--data", 'tool_call_parser="none"'),
        *("--data", "report=/f/deploy.json"),
    ]


# ---- what is served


def running(model: str = "org/a", nodes: int = 2, **launch: Any) -> ProjectListing:
    launch = {"tp": 2, "pp": 1, "nnodes": 2, "mem_fraction": 0.8, "tool_call_parser": "",
              "served_model_name": model, "disable_cuda_graph": True} | launch  # fmt: skip
    rank = ProjectRank(
        "n", 0, "sglang-head", "docker", model, "i:t", "sha256:ab", "0.5", "cd", launch, ""
    )
    return replace(
        listing(),
        runs=True,
        ranks=tuple(replace(rank, rank=n) for n in range(launch["nnodes"])),
        nodes=tuple(ProjectNode(f"spark-{n}") for n in range(nodes)),
    )


@pytest.mark.parametrize(
    "settings, now, names, wrong",
    [
        pytest.param({}, running(), ["org/a"], "", id="as-wanted"),
        pytest.param({"mem_fraction": 0.8}, running(), ["org/a"], "", id="setting-as-wanted"),
        pytest.param({"mem_fraction": "auto"}, running(), ["org/a"], "", id="auto"),
        pytest.param({"tool_call_parser": "none"}, running(), ["org/a"], "", id="none"),
        pytest.param({"hf_cache": "/x"}, running(), ["org/a"], "", id="not-told"),
        pytest.param({}, running("org/b"), ["org/b"], "serves org/b, expected org/a", id="other"),
        pytest.param({}, running(), ["x/y"], "serves x/y, expected org/a", id="another-name"),
        pytest.param({}, running(), [], "spark-1:30000/v1/models lists nothing", id="silent"),
        pytest.param({}, listing(), ["org/a"], "nothing is running; expected org/a", id="nothing"),
        pytest.param({"tensor_parallel": 1}, running(), ["org/a"],
                     "serves org/a with tensor_parallel = 2, expected 1", id="tp"),
        pytest.param({"disable_cuda_graph": False}, running(), ["org/a"],
                     "with disable_cuda_graph = True, expected False", id="flag"),
    ],
)  # fmt: skip
def test_readiness_checks_which_model_is_served(
    settings: dict[str, Any], now: ProjectListing, names: list[str], wrong: str
) -> None:
    problem = serving_problem(replace(CASE, settings=settings), now, names)
    assert wrong in problem
    assert bool(wrong) == bool(problem)


def answered(**fields: Any) -> AskProject:
    """The project's answer to every question."""
    return lambda cases: [Feasibility(**fields)] * len(cases)


def test_the_previously_served_model_is_known_with_its_settings() -> None:
    served = served_before(running(tp=2, mem_fraction=0.7), answered())
    assert served
    assert served.model == "org/a"
    assert served.data == {
        "model": "org/a", "tensor_parallel": 2, "pipeline_parallel": 1, "mem_fraction": 0.7,
        "disable_cuda_graph": True, "reasoning_parser": "none", "tool_call_parser": "none",
        "image": "i:t",
    }  # fmt: skip
    assert served.specs == ("cd", "cd")
    alone = served_before(running(nnodes=1, tp=1, served_model_name="mine"), answered())
    assert alone
    assert alone.data["head_only"] is True
    assert "tensor_parallel" not in alone.data
    assert alone.data["served_model_name"] == "mine"
    assert served_before(listing(), answered()) is None


def of_variant(name: str, now: ProjectListing, **changes: Any) -> ProjectListing:
    """What runs, as a variant of its model."""
    ranks = tuple(replace(rank, variant=name) for rank in now.ranks)
    entry = ProjectModel("org/a", "a", default_variant="usual")
    return replace(now, ranks=ranks, catalogue=(entry,), **changes)


def test_a_variants_image_and_arguments_come_back_with_it_and_not_as_the_users() -> None:
    now = of_variant("fast", running(model_args=["--a", "1"], kv_cache_dtype="fp8_e4m3"))
    served = served_before(now, answered(image="i:t", arguments=("--a", "1")))
    assert served
    assert served.data["variant"] == "fast"
    assert served.data["kv_cache_dtype"] == "fp8_e4m3"
    assert not {"image", "extra_args", "draft"} & served.data.keys()


def test_a_declared_variant_does_not_replace_the_default_that_runs() -> None:
    served = served_before(of_variant("", running(), declares_variant=True), answered())
    assert served
    assert served.data["variant"] == "auto"


@pytest.mark.parametrize(
    ("arguments", "draft"),
    [
        pytest.param([], None, id="model-without-arguments"),
        pytest.param(["--a", DRAFT, "org/usual"], None, id="the-variants-own"),
        pytest.param(["--a", DRAFT, "org/mine"], "org/mine", id="another"),
        pytest.param(["--a"], "none", id="none"),
        pytest.param(["--b"], None, id="unknown"),
    ],
)
def test_the_draft_that_was_served_comes_back(arguments: list[str], draft: str | None) -> None:
    def ask(cases: Sequence[Mapping[str, Any]]) -> list[Feasibility]:
        answers = []
        for case in cases:
            name = case.get("draft", "org/usual")
            speculation = () if name == "none" else (DRAFT, name)
            answers.append(Feasibility(image="i:t", arguments=("--a", *speculation)))
        return answers

    served = served_before(of_variant("fast", running(model_args=arguments)), ask)
    assert served
    assert served.data.get("draft") == draft


@pytest.mark.parametrize(
    ("runs", "wanted", "problem"),
    [
        pytest.param("fast", "fast", "", id="it"),
        pytest.param("", "usual", "", id="the-default"),
        pytest.param("", "fast", "serves org/a's variant usual, expected fast", id="default"),
        pytest.param("fast", "usual", "serves org/a's variant fast, expected usual", id="other"),
        pytest.param("", "", "", id="no-variants"),
    ],
)
def test_readiness_checks_which_variant_is_served(runs: str, wanted: str, problem: str) -> None:
    case = replace(CASE, served_variant=wanted)
    assert serving_problem(case, of_variant(runs, running()), ["org/a"]) == problem


# ---- a run's result


def result(completed: int = 10, failed: int = 0, **changes: Any) -> Result:
    result = a_result()
    failures = {"http_500": failed} if failed else {}
    row = replace(result.summary, completed=completed, failed=failed, failures=failures)
    row = replace(row, total_output_tokens=completed * 4)
    return replace(result, summary=row, **{"status": "complete", "reason": ""} | changes)


SPEC = "ab" * 32


@pytest.mark.parametrize(
    "code, result, limit, failure",
    [
        pytest.param(0, result(), FailureLimit(), None, id="ok"),
        pytest.param(0, result(9, 1), FailureLimit(1), None, id="allowed"),
        pytest.param(0, result(9, 1), FailureLimit(),
                     ("BENCH_FAILED", "1 of 10 requests failed (1 http_500)"), id="some-failed"),
        pytest.param(0, result(0, 10), FailureLimit(percent=100.0),
                     ("NO_OUTPUT", "none of 10 requests was answered (10 http_500)"), id="none"),
        pytest.param(0, result(status="partial", reason="Ctrl-C"), FailureLimit(),
                     ("BENCH_FAILED", "it ended early: Ctrl-C"), id="partial"),
        pytest.param(None, result(3), FailureLimit(),
                     ("BENCH_FAILED", "no end within 10 min (--bench-timeout): 3 requests were "
                      "answered"), id="late"),
        pytest.param(None, None, FailureLimit(),
                     ("BENCH_FAILED", "no end within 10 min (--bench-timeout)"), id="mute"),
        pytest.param(1, None, FailureLimit(), ("BENCH_FAILED", "no server there"), id="error"),
    ],
)  # fmt: skip
def test_a_run_log_gives_its_failure(
    code: int | None, result: Result | None, limit: FailureLimit, failure: tuple[str, str] | None
) -> None:
    row = ended(code, "some line\nError: no server there")
    came = case_run.run_failure(row, result, suite_options(max_failures=limit), SPEC)
    assert came == (CaseFailure(*failure) if failure else None)  # type: ignore[arg-type]


def test_a_model_changed_during_the_run_gives_no_result() -> None:
    came = case_run.run_failure(ended(0), result(), suite_options(), "another")
    assert came
    assert came.status == "BENCH_FAILED"
    assert "was deployed anew" in came.diagnosis


def test_the_command_line_of_a_run() -> None:
    changes = {"num_prompts": 3, "request_rate": None, "concurrency": None}
    words = case_run.run_argv(suite_options(overrides=changes, repeat=2), "org/a", Path("o.json"))
    assert words[3:] == [
        *("spark_bench", "run", "short", "--num-prompts", "3", "--request-rate", "inf"),
        *("--concurrency", "none", "--repeat", "2", "--max-failures", "100%"),
        *("--model", "org/a", "--output", "o.json", "--no-history", "--project", "."),
        *("--inventory", "inventories/spark.py"),
    ]


# ---- rows


def suite_results(rows: Sequence[CaseRow]) -> SuiteResults:
    load = SuiteLoad(profile="short", num_prompts=50, input_len=256, output_len=256)
    return SuiteResults(timestamp="now", config=load, total_time_seconds=61, models_tested=1,
                        results=tuple(rows))  # fmt: skip


def test_row_figures_match_the_result() -> None:
    row = result()
    built = case_row(CASE, None, row, log="a.log")
    assert built.status == "OK"
    assert built.total_throughput == row.summary.total_throughput
    assert built.total_throughput != built.output_throughput
    assert (built.ttft_ms, built.itl_ms, built.e2e_ms) == (
        *(row.summary.mean_ttft_ms, row.summary.mean_itl_ms),
        row.summary.mean_e2e_latency_ms,
    )
    assert (built.completed, built.failed, built.duration) == (10, 0, row.summary.duration)
    assert (built.nodes, built.repeats, built.spec) == (2, 2, SPEC)


def test_a_row_names_the_models_default_variant_too() -> None:
    case = replace(CASE, served_variant="usual", default_variant="usual")
    row = case_row(case, None, result(), log="a.log")
    assert (row.variant, row.served_variant) == ("", "usual")
    head, line = rows_csv([row]).splitlines()
    assert dict(zip(head.split(","), line.split(","), strict=True))["served_variant"] == "usual"


def test_a_failed_row_has_counts_and_no_figures() -> None:
    row = case_row(CASE, CaseFailure("BENCH_FAILED", "why"), result(9, 1))
    assert (row.status, row.diagnosis, row.completed, row.failed) == (
        "BENCH_FAILED",
        "why",
        9,
        1,
    )
    figures = [value for name, value in asdict(row).items() if name.endswith(("_ms", "throughput"))]
    assert figures == [None] * len(figures)


def test_the_csv_has_the_bounds_and_what_the_streams_show() -> None:
    columns = rows_csv([a_row("a", 10, 100)]).splitlines()[0].split(",")
    assert not {"slots", "ttft_ms_least"} & set(columns)
    bounds = {"mean_ttft_ms": Bound(199.5, 200.25), "output_throughput": Bound(90, 110)}
    streams = queue(TimedRequests(simulate(Engine(slots=2), Load(20, closed=4)).requests))
    assert streams
    built = case_row(CASE, None, replace(result(), bounds=bounds, queue=streams))
    assert (built.slots, built.queue_ms) == (2, streams.wait_ms)
    head, line, other = rows_csv([built, a_row("b", 10, 100)]).splitlines()
    row = dict(zip(head.split(","), line.split(","), strict=True))
    assert (row["ttft_ms_least"], row["ttft_ms_most"]) == ("199.5", "200.25")
    assert (row["output_throughput_least"], row["output_throughput_most"]) == ("90", "110")
    assert row["slots"] == "2"
    (plain,), (shown,) = matrix_rows([built]), matrix_rows([built], bounded=True)
    assert shown == [*plain[:3], f"{plain[3]} (90.0 to 110)", *plain[4:]]
    assert other.split(",")[-4:] == ["", "", "", ""]


def test_the_pareto_front_has_unbeaten_rows() -> None:
    rows = [a_row("a", 10, 100), a_row("b", 20, 200), a_row("c", 10, 150), a_row("d", 9, 300),
            a_row("e", None, None), a_row("f", 10, 100)]  # fmt: skip
    assert [r.pareto for r in mark_pareto(rows)] == [True, True, False, False, None, True]


def test_variants_compete_with_those_of_their_own_model() -> None:
    rows = [a_row("a", 10, 100, variant="tp=1"), a_row("a", 5, 200, variant="tp=2"),
            a_row("b", 1, 900, variant="tp=1")]  # fmt: skip
    assert [r.pareto for r in mark_pareto(rows)] == [True, False, True]


def test_rankings_have_the_best_first_and_the_failed_last() -> None:
    rows = [a_row("a", None, None), a_row("b", 10, 100), a_row("c", 20, 300), a_row("d", 5, 50)]
    assert [r.name for r in by_throughput(rows)] == ["c", "b", "d", "a"]
    assert [r.name for r in by_ttft(rows)] == ["d", "b", "c", "a"]
    output = render_summary(suite_results(rows))
    assert "3 of 4 OK" in output
    assert "   -  a " in output
    assert "a: BENCH_FAILED: " in output


def test_a_table_of_variants_has_a_line_each() -> None:
    rows = [a_row(m, t, 1.0, variant=v) for m, v, t in
            [("a", "tp=1", 10.0), ("a", "tp=2", 20.0), ("b", "tp=1", None)]]  # fmt: skip
    output = render_summary(suite_results(mark_pareto(rows)))
    block = output.split("Output tokens/s by variant\n\n")[1].splitlines()
    assert [line.split() for line in block[:3]] == [
        ["a", "b"],
        ["tp=1", "10.0", "-"],
        ["tp=2", "20.0", "-"],
    ]


def test_a_csv_quotes_what_holds_commas() -> None:
    text = rows_csv([a_row("a", None, None, diagnosis='a, "b"\nc')])
    assert '"a, ""b""\nc"' in text


def test_rows_as_spark_users_publish_them() -> None:
    prompts, answers = published_rows(a_row("a", 1.0, 1.0), result())
    assert prompts[:2] == ["a", "pp128 (c10)"]
    # 128 tokens in 200 ms; a token each 32 / 3 ms.
    assert prompts[3] == "640.00 ± 0.00"
    assert prompts[5] == "200.00 ± 0.00"
    assert answers[1] == "tg8 (c10)"
    assert answers[3] == "93.75 ± 0.00"


def test_a_table_in_plain_text() -> None:
    assert plain_table(["a", "bb", "c"], [["x", "1", "y z"]]) == "a  bb  c\n-  --  ---\nx   1  y z"


# ---- a job that changed


def a_job(**changes: Any) -> SuiteJob:
    load = SuiteLoad(profile="short", num_prompts=50, input_len=256, output_len=256)
    parts = (JobCase(name="a", model="org/a", settings={"tp": 2}), JobCase(name="b", model="org/b"))
    plain = {"client": "0.1", "project": "/p", "commit": "c" * 40, "inventory": "i.py"}
    return SuiteJob(**plain | {"settings_sha256": "d" * 64, "load": load, "parts": parts} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes, messages",
    [
        pytest.param({}, [], id="same"),
        pytest.param({"client": "0.2"}, ["client: 0.1 -> 0.2"], id="client"),
        pytest.param({"commit": ""}, ["commit: cccccccccccc…cccccc -> (none)"], id="commit"),
        pytest.param({"load": SuiteLoad(profile="short", num_prompts=9, input_len=256,
                                        output_len=256)},
                     ["load.num_prompts: 50 -> 9"], id="load"),
        pytest.param({"parts": (JobCase(name="a", model="org/a", settings={"tp": 1}),
                                JobCase(name="c", model="org/c"))},
                     ["a: settings.tp: 2 -> 1", "b: is gone", "c: is new"], id="models"),
    ],
)  # fmt: skip
def test_job_changes_are_named(changes: dict[str, Any], messages: list[str]) -> None:
    assert list(job_changes(a_job(), a_job(**changes))) == messages
    if messages:
        with pytest.raises(BadInput, match="the job has changed"):
            refuse_changed(a_job(), a_job(**changes), Path("out"))


# ---- progress


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_one_line_below() -> None:
    stream = FakeTerminal()
    steps = SuiteProgress(stream)
    steps.below("one")
    steps.below("two")
    steps.step("done")
    assert stream.getvalue() == (
        "              one\r\x1b[K              two\r\x1b[K[        0 s] done\n"
    )


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("spark_bench.suite.child.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    steps = SuiteProgress(stream)
    for now[0] in (101.0, 114.0, 116.0, 117.0, 140.0):
        steps.below(f"at {now[0]:.0f}")
    assert stream.getvalue() == "[       16 s]   at 116\n[       40 s]   at 140\n"


def test_progress_outlives_its_terminal() -> None:
    stream = io.StringIO()
    stream.close()
    steps = SuiteProgress(io.StringIO())
    steps.stream = stream
    steps.step("nobody reads this")


# ---- the time for a start-up


def test_the_time_limit_restarts_until_transfers_are_done(tmp_path: Path) -> None:
    file = tmp_path / "deploy.json"
    watch = deploy.TransferWatch(file)
    assert not watch("--> Connecting to hosts...")
    steps = {"check": False, "image": True, "weights": True, "recheck": True, "switch": False}
    for step, restarts in steps.items():
        file.write_text(json.dumps({"version": 1, "outcome": "interrupted", "step": step}))
        assert watch("a line") is restarts, step


@pytest.mark.parametrize("in_file", [True, False])
def test_a_key_in_a_file_is_in_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_file: bool
) -> None:
    environments: list[Mapping[str, str]] = []

    def noted(
        words: Any, cwd: Any, log: Any, seconds: Any, tell: Any, environ: Any, *_: Any
    ) -> ChildExit:
        environments.append(environ)
        return ended(1)

    monkeypatch.delenv("SPARK_BENCH_API_KEY", raising=False)
    monkeypatch.setattr(child, "follow_command", noted)
    key = {"api_key": Secret("planted"), "api_key_file": tmp_path / "key" if in_file else None}
    stage = case_run.CaseCommands(
        suite_options(folder=tmp_path, **key), SuiteProgress(io.StringIO()), io.BytesIO()
    )
    stage.measure(CASE)
    (environ,) = environments
    assert ("SPARK_BENCH_API_KEY" in environ) != in_file


# ---- folders of earlier versions


RECORDED = Path(__file__).parent / "recorded"


@pytest.mark.parametrize("version", sorted(folder.name for folder in RECORDED.iterdir()))
def test_an_earlier_versions_folder_keeps_its_format(version: str) -> None:
    """Field names in stored data never change: a suite begun before an update can be resumed."""
    folder = RECORDED / version
    job_file, results = read_job(folder), read_results(folder)
    assert results
    assert encode_results(results) == (folder / "results.json").read_bytes()
    written = json.loads(msgspec.json.encode(job_file))
    assert written == json.loads((folder / "job.json").read_bytes())
    assert list(job_changes(job_file.job, job_file.job)) == []
    assert render_summary(results).count("SKIPPED") == 2

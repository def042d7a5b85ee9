"""Log lines → cause → cure. logs/ holds lines of real SGLang 0.5.23 runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.engine.diagnosis import (
    EVIDENCE_LENGTH,
    End,
    diagnose,
    docker_error,
    docker_failure,
    group_diagnosis,
)
from cluster.engine.symptoms import Weight

LOGS = Path(__file__).parent / "logs"
STAMP = "[2026-11-23 07:38:16 TP0] "


def log(name: str) -> list[str]:
    return (LOGS / f"{name}.log").read_text().splitlines()


def keys(diagnoses) -> list[str]:
    return [d.key for d in diagnoses]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("gated-401", ["gated-token"], id="gated"),
        pytest.param("no-network", ["no-network"], id="no-network"),
        pytest.param("rank0-alone", ["waiting-for-ranks", "child-died"], id="no-worker-came"),
        pytest.param("assertion", ["exception", "child-died"], id="a-cause-nobody-knows"),
        pytest.param("lost-rank0", ["peer-gone", "child-died"], id="head-lost-its-worker"),
        pytest.param("lost-rank1", ["child-killed"], id="worker-killed"),
    ],
)
def test_a_recorded_failure_is_reported_cause_first(name, expected):
    assert keys(diagnose(log(name), End(137))) == expected


@pytest.mark.parametrize("name", ["served-alone", "served-rank0", "served-rank1"])
def test_a_real_log_of_a_rank_that_served_holds_no_fault(name):
    assert diagnose(log(name), End(0)) == ()


def test_the_model_and_what_was_seen_are_named():
    (diagnosis,) = diagnose(log("gated-401"))
    assert diagnosis.cause.startswith("meta-llama/Llama-3.1-8B-Instruct is gated")
    assert diagnosis.evidence == "huggingface_hub.errors.GatedRepoError: 401 Client Error."


def test_an_unaccepted_license_is_not_a_missing_token():
    lines = [
        "OSError: You are trying to access a gated repo.",
        "Make sure to have access to it at https://huggingface.co/google/gemma-2-27b-it.",
        "403 Client Error. (Your request to access it is awaiting a review.)",
        "Access to model google/gemma-2-27b-it is restricted and you are not in the "
        "authorized list.",
    ]
    (diagnosis,) = diagnose(lines)
    assert diagnosis.key == "gated-licence"
    assert "https://huggingface.co/google/gemma-2-27b-it " in diagnosis.cure


def test_a_license_without_a_model_keeps_the_placeholder():
    (diagnosis,) = diagnose(["huggingface_hub.errors.GatedRepoError: 403 Client Error."])
    assert diagnosis.cause.startswith("the model is gated")
    assert "huggingface.co/MODEL" in diagnosis.cure


def test_an_unknown_exception_is_quoted():
    diagnosis = diagnose(log("assertion"))[0]
    assert diagnosis.evidence.startswith("AssertionError: SGLANG_CPU_OMP_THREADS_BIND is not set")
    assert "AssertionError" in diagnosis.cause


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        pytest.param(None, [], id="still-running"),
        pytest.param(End(0), [], id="ended-well"),
        pytest.param(End(1), ["exception"], id="failed"),
    ],
)
def test_a_traceback_is_a_cause_only_if_the_engine_failed(end, expected):
    lines = [
        "Traceback (most recent call last):",
        '  File "a.py", line 1',
        "KeyError: 'hidden_size'",
    ]
    assert keys(diagnose(lines, end))[:1] == expected


def test_doctor_does_not_take_exit_code_137_for_out_of_memory():
    (diagnosis,) = diagnose(log("served-rank0"), End(137))
    assert diagnosis.key == "ended"
    assert "not for lack of memory" in diagnosis.cause


def test_oom_killed_is_reported_as_out_of_memory_first():
    diagnoses = diagnose(log("lost-rank0"), End(137, oom_killed=True))
    assert keys(diagnoses) == ["oom-killed", "peer-gone", "child-died"]


@pytest.mark.parametrize(
    ("end", "key", "words"),
    [
        pytest.param(End(2), "bad-flags", "arguments", id="bad-flags"),
        pytest.param(End(125), "docker-failed", "Docker", id="docker"),
        pytest.param(End(126), "not-executable", "executed", id="not-executable"),
        pytest.param(End(127), "no-such-command", "command", id="no-command"),
        pytest.param(End(1), "ended", "exit code 1", id="plain"),
        pytest.param(End(139), "ended", "SIGSEGV", id="signal"),
        pytest.param(End(255), "ended", "exit code 255", id="no-signal"),
        pytest.param(End(0, restarts=3), "ended", "restarted, 3 times", id="restarts"),
    ],
)
def test_an_exit_code_proves_what_it_can(end, key, words):
    (diagnosis,) = diagnose([], end)
    assert diagnosis.key == key
    assert words in diagnosis.cause


def test_a_refused_flag_is_reported_once_with_its_line():
    line = "launch_server.py: error: unrecognized arguments: --torchao-config"
    (diagnosis,) = diagnose([line], End(2))
    assert (
        diagnosis.cause
        == "the engine refuses its arguments: unrecognized arguments: --torchao-config"
    )
    assert diagnosis.evidence == line


def test_consequences_are_listed_after_the_cause():
    lines = [
        f"{STAMP}Received sigquit from a child process. It usually means the child failed.",
        "RuntimeError: Connection reset by peer. This is typically caused by a remote worker",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "[2026-11-23 07:39:24] OpenAI Responses API (/v1/responses) disabled: x",
    ]
    diagnoses = diagnose(lines)
    assert keys(diagnoses) == ["cuda-oom", "peer-gone", "child-died", "tiktoken"]
    assert [d.weight for d in diagnoses] == [
        *(Weight.CAUSE, Weight.PEER, Weight.CONSEQUENCE, Weight.NOTE),
    ]


def test_a_graph_that_ran_out_of_memory_is_reported_once():
    lines = [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 2.00 GiB",
        "1. set --mem-fraction-static to a smaller value (e.g., 0.8 or 0.7)",
    ]
    (diagnosis,) = diagnose(lines)
    assert diagnosis.key == "graph-oom"


def test_a_note_alone_does_not_explain_an_end():
    note = "[2026-11-23 07:39:24] OpenAI Responses API (/v1/responses) disabled: x"
    assert keys(diagnose([note], End(137))) == ["ended", "tiktoken"]


def test_errors_before_ready_are_not_faults():
    failed = "torch.distributed.DistStoreError: Timed out after 60 seconds waiting for clients. 1/2"
    ready = "[2026-11-23 07:38:37] The server is fired up and ready to roll!"
    assert diagnose([failed, ready]) == ()
    assert keys(diagnose([ready, failed])) == ["waiting-for-ranks"]


def test_a_note_outlives_ready():
    note = "[2026-11-23 07:39:24] OpenAI Responses API (/v1/responses) disabled: x"
    ready = "[2026-11-23 07:38:37] The server is fired up and ready to roll!"
    assert keys(diagnose([note, ready])) == ["tiktoken"]


def test_a_hang_is_over_when_health_answers_again():
    hung = (
        "Health check failed. Server couldn't get a response from detokenizer for last 20 seconds."
    )
    answers = 'INFO:     127.0.0.1:42984 - "GET /health HTTP/1.1" 200 OK'
    assert diagnose([hung, answers]) == ()
    assert keys(diagnose([answers, hung])) == ["hung"]


def test_a_group_is_diagnosed_by_the_rank_that_failed_first():
    diagnoses = group_diagnosis(
        {"head": (log("lost-rank0"), End(137)), "worker": (log("lost-rank1"), End(0))}
    )
    assert [(rank, d.key) for rank, d in diagnoses] == [
        ("worker", "child-killed"),
        ("head", "peer-gone"),
        ("head", "child-died"),
    ]


def test_a_group_that_lost_no_rank_keeps_its_order():
    oom = ["torch.OutOfMemoryError: CUDA out of memory."]
    diagnoses = group_diagnosis({"head": (oom, None), "worker": (oom, End(1))})
    assert [(rank, d.key) for rank, d in diagnoses] == [
        ("head", "cuda-oom"),
        ("worker", "cuda-oom"),
    ]


def test_evidence_has_no_colours_and_is_short():
    line = f"\x1b[31m{'x' * 300} CUDA out of memory {'y' * 300}\x1b[0m"
    (diagnosis,) = diagnose([line])
    assert diagnosis.evidence.startswith("…CUDA out of memory")
    assert len(diagnosis.evidence) <= EVIDENCE_LENGTH
    assert "\x1b" not in diagnosis.evidence


def test_the_requested_image_is_named_where_docker_does_not():
    symptom = docker_error("Error response from daemon: manifest unknown", "lmsysorg/sglang:v9")
    assert symptom is not None
    assert symptom.cause.startswith("lmsysorg/sglang:v9 ")


def test_other_docker_output_gives_no_diagnosis():
    assert docker_error("Status: Downloaded newer image for lmsysorg/sglang:spark") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("nccl-without-rdma", ["nccl-no-device", "child-died"], id="no-rdma-device"),
        pytest.param("no-gpu", ["no-gpu"], id="no-gpu"),
        pytest.param("other-port-rank0", ["waiting-for-ranks", "child-died"], id="nobody-came"),
        pytest.param("other-port-rank1", ["head-unreachable"], id="another-port"),
    ],
)
def test_a_gpu_failure_of_sglang_0_5_11_is_reported_cause_first(name, expected):
    assert keys(diagnose(log(name), End(137))) == expected


def test_ranks_that_did_not_meet_are_reported_with_their_addresses():
    diagnoses = group_diagnosis(
        {
            "head": (log("other-port-rank0"), End(137)),
            "worker": (log("other-port-rank1"), None),
        }
    )
    assert [(rank, d.key) for rank, d in diagnoses[:2]] == [
        ("head", "waiting-for-ranks"),
        ("worker", "head-unreachable"),
    ]
    assert "127.0.0.1, 50139" in diagnoses[1][1].cause


# ---- exceptions that no symptom knows


def failed(*lines: str, code: int = 1):
    return diagnose(
        ["Traceback (most recent call last):", '  File "a.py", line 1', *lines], End(code)
    )[0]


def test_the_text_of_an_exception_may_begin_on_a_later_line():
    request = failed("ImportError: ", "", "[new_kernel] no library was found", "", "more of it")
    assert request.key == "exception"
    assert request.evidence == "ImportError: [new_kernel] no library was found"


def test_an_evidence_line_ending_in_a_colon_includes_the_next():
    request = failed("RuntimeError: the loader failed:", "shard 3 has no index", "and so on")
    assert request.evidence == "RuntimeError: the loader failed: shard 3 has no index"


@pytest.mark.parametrize(
    "between",
    [
        "During handling of the above exception, another exception occurred:",
        "The above exception was the direct cause of the following exception:",
    ],
)
def test_a_chain_of_exceptions_is_quoted_from_its_start(between):
    request = failed(
        "KeyError: 'hidden_size'",
        "",
        between,
        "",
        "Traceback (most recent call last):",
        '  File "b.py", line 2, in load',
        "    raise ConfigMissing('config.json')",
        "acme.ConfigMissing: config.json",
    )
    assert request.cause == (
        "the engine failed: acme.ConfigMissing: config.json, because of KeyError: 'hidden_size'"
    )
    assert request.evidence == "KeyError: 'hidden_size'"


def test_a_chain_that_begins_with_a_known_symptom_is_that_symptom():
    request = failed(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "b.py", line 2, in load',
        "acme.LoadFailed: no",
    )
    assert request.key == "cuda-oom"


GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/opt/a.py", line 5, in <module>
  |     raise ExceptionGroup("startup", errors)
  | ExceptionGroup: startup (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/opt/a.py", line 3, in <module>
    |     raise ShardMissing("model-00002")
    | acme.ShardMissing: model-00002
    +---------------- 2 ----------------
    | ValueError: second
    +------------------------------------"""


def test_an_exception_group_is_reported_by_its_first_member():
    diagnosis = diagnose(GROUP.splitlines(), End(1))[0]
    assert diagnosis.evidence == "acme.ShardMissing: model-00002"
    assert "ExceptionGroup: startup (2 sub-exceptions)" in diagnosis.cause


@pytest.mark.parametrize("who", ["Scheduler", "DetokenizerManager", "DataParallelController"])
def test_a_process_error_precedes_its_killed_children(who):
    lines = [
        f"{STAMP}{who} hit an exception: Traceback (most recent call last):",
        '  File "/opt/scheduler.py", line 1, in run',
        "acme.Unthinkable: no way",
        "[2026-11-23 07:39:24] Subprocess scheduler_1 (pid=9) crashed with exit code -9.",
    ]
    assert keys(diagnose(lines, End(137)))[:2] == ["exception", "child-killed"]


def test_a_head_of_0_5_3_reports_the_scheduler_kill_not_the_pipe():
    lines = [
        "[2026-11-23 07:39:24] Rank 0 scheduler is dead. Please check if there are relevant logs.",
        "[2026-11-23 07:39:24] Exit code: -9",
        "Traceback (most recent call last):",
        '  File "/opt/sglang/srt/entrypoints/engine.py", line 881, in _launch_subprocesses',
        "EOFError",
    ]
    assert keys(diagnose(lines, End(1))) == ["child-killed", "child-died"]


def test_an_exception_inside_a_log_line_of_another_process_is_not_its_text():
    request = failed(
        "acme.Odd: first",
        "[2026-11-23 07:39:24] INFO:     10.0.0.9:50112 - GET /x",
    )
    assert request.evidence == "acme.Odd: first"


def test_the_end_of_a_traceback_whose_beginning_is_lost_is_quoted():
    (diagnosis,) = diagnose(["    return f(x)", "acme.OddError: no"], End(1))
    assert diagnosis.evidence == "acme.OddError: no"


def test_the_traceback_of_a_process_of_torch_distributed_carries_its_rank():
    lines = [
        "[rank0]: Traceback (most recent call last):",
        '[rank0]:   File "a.py", line 1, in run',
        "[rank0]: acme.Strange: thing",
    ]
    assert diagnose(lines, End(1))[0].evidence == "acme.Strange: thing"


def test_a_symptom_is_found_in_a_member_of_a_group():
    lines = GROUP.replace("ValueError: second", "MemoryError").splitlines()
    assert keys(diagnose(lines, End(1))) == ["host-memory"]


def test_an_exception_that_python_ignores_ended_nothing():
    lines = [
        "Exception ignored in: <function Engine.__del__ at 0xffff>",
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in __del__',
        "AttributeError: 'NoneType' object has no attribute 'close'",
    ]
    assert keys(diagnose(lines, End(1))) == ["ended"]


def test_errors_after_a_requested_stop_are_not_faults():
    stop = f"{STAMP}SIGTERM received. signum=None. Draining requests and shutting down..."
    child = "[2026-11-23 07:39:24] Subprocess scheduler_0 (pid=4) crashed with exit code -15."
    assert diagnose([stop, child], End(0)) == ()
    again = "[2026-11-23 07:40:00] server_args=ServerArgs(model_path='acme/m')"
    assert keys(diagnose([stop, again, child])) == ["child-ended"]


# ---- NCCL

WARNED = "spark-1:4:5 [0] ibvwrap.cc:262 NCCL WARN Call to ibv_modify_qp failed with 110 Connection"
SUMMED_UP = (
    "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"
)


def test_an_nccl_warning_is_the_cause_of_its_summary():
    diagnoses = diagnose(
        [
            WARNED,
            f"{STAMP}Scheduler hit an exception: Traceback (most recent call last):",
            '  File "/opt/pynccl_wrapper.py", line 349, in NCCL_CHECK',
            SUMMED_UP,
        ],
        End(137),
    )
    assert keys(diagnoses) == ["nccl-no-path"]
    assert diagnoses[0].evidence.startswith(WARNED[:40])
    assert "check.py" in diagnoses[0].cure


def test_the_last_unknown_nccl_warning_is_quoted():
    warnings = [f"spark-1:4:5 [0] x.cc:1 NCCL WARN Something {n}" for n in ("else", "odd")]
    (diagnosis,) = diagnose([*warnings, SUMMED_UP])
    assert (diagnosis.key, diagnosis.evidence) == ("nccl-warned", warnings[1])
    assert diagnosis.cause == "NCCL failed: Something odd"


def test_a_warning_without_a_failure_is_not_a_fault():
    assert diagnose(["spark-1:4:5 [0] x.cc:1 NCCL WARN Something odd"]) == ()


@pytest.mark.parametrize(
    "line",
    [
        "spark-1:4:5 [0] NCCL INFO Call to ibv_modify_qp failed with 110 Connection timed out, on "
        "dev x, retrying 1/35 after 100 msec of sleep",
        "spark-1:4:5 [0] NCCL INFO NET/Plugin: Could not find: libnccl-net.so",
    ],
)
def test_nccl_warnings_it_recovers_from_are_not_faults(line):
    assert diagnose([line], End(0)) == ()


def test_a_stopped_head_leaves_no_fault_in_its_group():
    diagnoses = group_diagnosis(
        {
            "head": (
                [f"{STAMP}SIGTERM received. signum=None. Draining requests and shutting down..."],
                End(137),
            ),
            "worker": (["RuntimeError: Connection closed by peer [10.0.0.1]:384"], End(137)),
        }
    )
    assert diagnoses == ()


def test_unknown_docker_errors_are_cut_at_a_word():
    why, cure = docker_failure(f"Error response from daemon: {'strange ' * 100}thing")
    assert why.startswith("… strange ")
    assert why.endswith("strange thing")
    assert "journalctl -u docker" in cure
    assert docker_failure("")[0] == "Docker did not respond in time"


def test_known_docker_errors_are_reported_with_their_line():
    why, cure = docker_failure("Error response from daemon: No such container: sglang-head")
    assert why.endswith("(Error response from daemon: No such container: sglang-head)")
    assert cure

"""Log lines → cause → cure. tests/unit/logs holds lines of real SGLang 0.5.23 runs."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from string import Formatter

import pytest

from cluster.diagnosis import (
    EVIDENCE_LENGTH,
    TRANSPORT_PATTERN,
    End,
    Weight,
    diagnose,
    docker_error,
    group_diagnosis,
    phase,
    transport,
)
from cluster.symptoms import SYMPTOMS, symptoms

LOGS = Path(__file__).parent / "logs"
STAMP = "[2026-11-23 07:38:16 TP0] "


def log(name: str) -> list[str]:
    return (LOGS / f"{name}.log").read_text().splitlines()


def keys(told) -> list[str]:
    return [d.key for d in told]


ENGINE_LINES = [
    pytest.param(
        "API key: /run/secrets/spark-serving-api/api_key cannot be read (FileNotFoundError): "
        "not started",
        *("api-key", "deploy.py (places it)"),
        id="api-key",
    ),
    pytest.param(
        "API key: --grpc-mode would serve without asking for it: not started",
        *("api-key-door", "take --grpc-mode out of extra_args"),
        id="api-key-door",
    ),
    pytest.param(
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. "
        "Current value: mem_fraction_static=0.6",
        *("kv-too-small", "mem_fraction=0.85"),
        id="kv-too-small-0.5.23",
    ),
    pytest.param(
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. ",
        *("kv-too-small", "mem_fraction=0.85"),
        id="kv-too-small-0.5.3",
    ),
    pytest.param(
        "Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 2.00 GiB",
        *("graph-oom", "disable_cuda_graph=true"),
        id="graph-oom",
    ),
    pytest.param(
        "1. set --mem-fraction-static to a smaller value (e.g., 0.8 or 0.7)",
        *("graph-oom", "mem_fraction=0.75"),
        id="graph-oom-hint",
    ),
    pytest.param(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total",
        *("cuda-oom", "mem_fraction=0.75"),
        id="cuda-oom",
    ),
    pytest.param(
        "torch.AcceleratorError: CUDA error: out of memory",
        *("cuda-oom", "drop_caches"),
        id="cuda-oom-driver",
    ),
    pytest.param(
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 147456, "
        "Hardware limit: 101376. Reducing block sizes or `num_stages` may help.",
        *("triton-shared-memory", "--attention-backend"),
        id="triton-shared-memory",
    ),
    pytest.param(
        "NCCL WARN Error while creating shared memory segment /dev/shm/nccl-AbCdEf (size 9637888), "
        "error: No space left on device (28)",
        *("shm-full", "shm_size=64g"),
        id="shm-full",
    ),
    pytest.param(
        f"{STAMP}The memory capacity is unbalanced. Some GPUs may be occupied by other processes. "
        "pre_model_load_memory=60.1, local_gpu_memory=101.2, local_gpu_memory * 0.9=91.08",
        *("gpu-shared", "nvidia-smi"),
        id="gpu-shared-0.5.23",
    ),
    pytest.param(
        "ValueError: The memory capacity is unbalanced. Some GPUs may be occupied by other "
        "processes. min_per_gpu_memory=60.1, local_gpu_memory=101.2",
        *("gpu-shared", "nvidia-smi"),
        id="gpu-shared-0.5.3",
    ),
    pytest.param(
        "OSError: [Errno 28] No space left on device",
        *("disk-full", "hf_cache"),
        id="disk-full",
    ),
    pytest.param(
        "RuntimeError: Data processing error: CAS service error : IO Error: "
        "No space left on device (os error 28)",
        *("disk-full", "df -h"),
        id="disk-full-xet",
    ),
    pytest.param(
        "PermissionError: [Errno 13] Permission denied: '/root/.cache/huggingface/hub'",
        *("not-writable", "chown"),
        id="not-writable",
    ),
    pytest.param(
        "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-2)",
        *("gated-licence", "accept its licence"),
        id="gated-403",
    ),
    pytest.param(
        "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-2)",
        *("no-such-model", "data model="),
        id="no-such-repository",
    ),
    pytest.param(
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
        "'namespace/repo_name': '/models/typo'. Use `repo_type` argument if needed.",
        *("no-such-model", "volumes"),
        id="no-such-path",
    ),
    pytest.param(
        "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata",
        *("weights-damaged", "hf_cache"),
        id="weights-damaged",
    ),
    pytest.param(
        "ValueError: The repository acme/new contains custom code. Please pass the argument "
        "`trust_remote_code=True` to allow custom code to be run.",
        *("remote-code", "trust_remote_code=true"),
        id="remote-code",
    ),
    pytest.param(
        "ValueError: Model architectures ['NewForCausalLM'] are not supported for now. Supported",
        *("model-unsupported", "image="),
        id="model-unsupported",
    ),
    pytest.param(
        "ValueError: Cannot find model module. 'NewForCausalLM' is not a registered model in the "
        "Transformers library (only relevant if the model is meant to be in Transformers) and "
        "'AutoModel' is not present in the model config's 'auto_map' (relevant if the model is "
        "custom).",
        *("model-unsupported", "image="),
        id="model-unknown-to-transformers",
    ),
    pytest.param(
        "ValueError: NewForCausalLM has no SGlang implementation and the Transformers "
        "implementation is not compatible with SGLang.",
        *("model-unsupported", "image="),
        id="model-incompatible",
    ),
    pytest.param(
        "ValueError: The checkpoint you are trying to load has model type `new` but Transformers "
        "does not recognize this architecture. This could be because of an issue with the",
        *("model-unsupported", "image="),
        id="model-type-unknown",
    ),
    pytest.param(
        "ValueError: Warning: User-specified context_length (4096) is greater than the derived "
        "context_length (2048). This may lead to incorrect model outputs or CUDA errors. Note that "
        "the derived context_length may differ from max_position_embeddings in the model's config. "
        "To allow overriding this maximum, set the env var "
        "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1",
        *("context-too-long", "context_length=2048"),
        id="context-too-long",
    ),
    pytest.param(
        "launch_server.py: error: unrecognized arguments: --cuda-graph-max-bs 8",
        *("bad-flags", "extra_args"),
        id="flag-unknown",
    ),
    pytest.param(
        "launch_server.py: error: argument --tool-call-parser: invalid choice: 'nope' (choose from "
        "'qwen25', 'mistral')",
        *("bad-flags", "extra_args"),
        id="flag-value",
    ),
    pytest.param(
        "AssertionError: tp_size must be divisible by number of nodes",
        *("divisible", "tensor_parallel"),
        id="not-divisible",
    ),
    pytest.param(
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local "
        "network address. port: 50000, useIpv6: false, code: -98, name: EADDRINUSE, message: "
        "address already in use",
        *("rendezvous-port", "dist_port=50001"),
        id="rendezvous-port",
    ),
    pytest.param(
        "ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 30000): "
        "address "
        "already in use",
        *("http-port", "port=30001"),
        id="http-port",
    ),
    pytest.param(
        "can't listen on 127.0.0.1:30000: Address already in use",
        *("http-port", "port=30001"),
        id="http-port-embedded",
    ),
    pytest.param(
        "ERROR:    [Errno 99] error while attempting to bind on address ('203.0.113.9', 30000): "
        "cannot assign requested address",
        *("host-address", "host=0.0.0.0"),
        id="host-address",
    ),
    pytest.param(
        "couldn't bind HTTP server socket, hostname: 203.0.113.9, port: 30000\n"
        "ERROR: can't listen on 203.0.113.9:30000: Cannot assign requested address",
        *("host-address", "host=0.0.0.0"),
        id="host-address-embedded",
    ),
    pytest.param(
        "spark-1:123:456 [0] NCCL WARN Bootstrap : no socket interface found",
        *("no-interface", "nccl_socket_ifname"),
        id="no-interface",
    ),
    pytest.param(
        f"{STAMP}Can not get local ip by remote",
        *("wrong-address", "SGLANG_HOST_IP"),
        id="freeze-without-host-ip",
    ),
    pytest.param(
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA",
        *("driver-not-loaded", "nvidia-smi"),
        id="no-driver",
    ),
    pytest.param(
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12080).",
        *("driver-old", "driver"),
        id="old-driver",
    ),
    pytest.param(
        "RuntimeError: No CUDA GPUs are available",
        *("no-gpu", "gpus=all"),
        id="no-gpu",
    ),
    pytest.param(
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the "
        "device",
        *("sm121", "lmsysorg/sglang:spark"),
        id="no-sm121-kernel",
    ),
    pytest.param(
        "ptxas /tmp/a.ptx, line 9; error : Feature 'x' not supported on .target 'sm_121a'",
        *("ptxas", "TRITON_PTXAS_PATH"),
        id="ptxas-feature",
    ),
    pytest.param(
        "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'",
        *("ptxas", "TRITON_PTXAS_PATH"),
        id="ptxas-target",
    ),
    pytest.param(
        "RuntimeError: [TensorRT-LLM] CUDART error: invalid resource handle",
        *("fusion-bug", "enable_dp_attention"),
        id="fusion-handle",
    ),
    pytest.param(
        "RuntimeError: CUDART error: invalid device context",
        *("fusion-bug", "enable_dp_attention"),
        id="fusion-context",
    ),
    pytest.param(
        "llama.cpp can't load '/models/broken.gguf'", "model-file", "make setup", id="broken-gguf"
    ),
    pytest.param(
        "the embedded engine needs the package xllamacpp: run make setup",
        *("engine-missing", "make setup"),
        id="embedded-missing",
    ),
    pytest.param(
        "[2026-11-23 07:30:56] Scheduler or DataParallelController 18051 terminated with -9",
        *("child-killed", "earlyoom"),
        id="child-killed",
    ),
    pytest.param(
        f"{STAMP}Watchdog timeout (self.watchdog_timeout=300)",
        *("watchdog", "--watchdog-timeout"),
        id="watchdog-0.5.3",
    ),
    pytest.param(
        f"{STAMP}Scheduler watchdog timeout (self.watchdog_timeout=300, self.soft=False)",
        *("watchdog", "--watchdog-timeout"),
        id="watchdog-0.5.23",
    ),
    pytest.param(
        "torch.distributed.DistNetworkError: The client socket has timed out after 15000ms while "
        "trying to connect to (169.254.1.1, 50000).",
        *("head-unreachable", "check.py"),
        id="head-unreachable",
    ),
    pytest.param(
        "[rank0]:[E1123] [PG ID 2 Rank 0] Watchdog caught collective operation timeout: "
        "WorkNCCL(SeqNum=11, OpType=ALLREDUCE)",
        *("nccl-timeout", "check.py"),
        id="nccl-timeout",
    ),
    pytest.param(
        "torch.distributed.DistBackendError: NCCL error: remote process exited or there was a "
        "network error",
        *("peer-gone", "check.py"),
        id="nccl-peer-gone",
    ),
    pytest.param(
        "[2026-11-23 07:39:24] Health check failed. Server couldn't get a response from "
        "detokenizer "
        "for last 20 seconds. tic start time: 07:39:04. last_heartbeat time: 07:38:37",
        *("hung", "check.py"),
        id="hung",
    ),
    pytest.param(
        "RuntimeError: Initialization failed. Please see the error messages above.",
        *("init-failed", "log"),
        id="init-failed",
    ),
    pytest.param(
        "[2026-11-23 07:39:24] Initialization failed. warmup error: Traceback (most recent call",
        *("init-failed", "log"),
        id="warmup-failed",
    ),
    pytest.param(
        "[2026-11-23 07:39:24] Can not initialize OpenAIServingResponses, error: error downloading "
        "or loading vocab file: failed to download or load vocab file",
        *("tiktoken", "tiktoken_source"),
        id="tiktoken-0.5.3",
    ),
    pytest.param(
        "[2026-11-23 07:39:24] OpenAI Responses API (/v1/responses) disabled: "
        "OpenAIServingResponses"
        " init failed (HarmonyError: invalid tiktoken vocab file: No such file or directory)",
        *("tiktoken", "tiktoken_source"),
        id="tiktoken-0.5.23",
    ),
    pytest.param(
        "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
        *("driver-not-loaded", "nvidia-smi"),
        id="container-driver",
    ),
    pytest.param(
        'docker: Error response from daemon: could not select device driver "" with capabilities: '
        "[[gpu]]",
        *("no-gpu-runtime", "nvidia-ctk"),
        id="docker-in-the-log",
    ),
]


@pytest.mark.parametrize(("line", "key", "cure"), ENGINE_LINES)
def test_a_symptom_has_its_cause_and_cure(line, key, cure):
    (told,) = diagnose([f"{STAMP}Init parallel begin.", line])
    assert told.key == key
    assert cure in told.cure
    assert told.evidence[:60] in line
    assert not {"{", "}"} & set(told.cause)


EXAMPLES = [(line, s.key) for s in symptoms("engine") for line in s.examples]


@pytest.mark.parametrize(("line", "key"), EXAMPLES)
def test_an_example_of_a_symptom_is_told_as_that_symptom(line, key):
    (told,) = diagnose([f"{STAMP}Init parallel begin.", line])
    assert told.key == key
    assert not {"{", "}"} & set(told.cause)


def test_every_symptom_of_an_engine_is_shown_by_a_test():
    lines = [*(p.values[0] for p in ENGINE_LINES), *(line for line, _ in EXAMPLES)]
    logs = [line for file in LOGS.glob("*.log") for line in file.read_text().splitlines()]
    shown = {s.key for s in symptoms("engine") if any(map(s.match, lines + logs))}
    assert {s.key for s in symptoms("engine")} == shown


def test_covered_symptoms_exist_and_every_word_of_a_text_has_its_group():
    table = tomllib.loads(SYMPTOMS.read_text())
    known = {entry["key"] for kind in ("engine", "docker") for entry in table[kind]}
    groups = {
        g for k in ("engine", "docker") for s in symptoms(k) for p in s.lines for g in p.groupindex
    }
    for entry in (*table["engine"], *table["docker"]):
        words = {
            w.lower() for t in ("cause", "cure") for _, w, _, _ in Formatter().parse(entry[t]) if w
        }
        assert set(entry.get("covers", [])) <= known
        assert words <= groups


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
def test_a_real_failure_is_told_cause_first(name, expected):
    assert keys(diagnose(log(name), End(137))) == expected


@pytest.mark.parametrize("name", ["served-alone", "served-rank0", "served-rank1"])
def test_a_real_log_of_a_rank_that_served_holds_no_fault(name):
    assert diagnose(log(name), End(0)) == ()


def test_the_model_and_what_was_seen_are_named():
    (told,) = diagnose(log("gated-401"))
    assert told.cause.startswith("meta-llama/Llama-3.1-8B-Instruct is gated")
    assert told.evidence == "huggingface_hub.errors.GatedRepoError: 401 Client Error."


def test_a_licence_not_accepted_is_not_a_missing_token():
    lines = [
        "OSError: You are trying to access a gated repo.",
        "Make sure to have access to it at https://huggingface.co/google/gemma-2-27b-it.",
        "403 Client Error. (Your request to access it is awaiting a review.)",
        "Access to model google/gemma-2-27b-it is restricted and you are not in the "
        "authorized list.",
    ]
    (told,) = diagnose(lines)
    assert told.key == "gated-licence"
    assert "https://huggingface.co/google/gemma-2-27b-it " in told.cure


def test_a_licence_whose_model_is_not_told_keeps_the_placeholder():
    (told,) = diagnose(["huggingface_hub.errors.GatedRepoError: 403 Client Error."])
    assert told.cause.startswith("the model is gated")
    assert "huggingface.co/MODEL" in told.cure


def test_an_unknown_exception_is_quoted():
    told = diagnose(log("assertion"))[0]
    assert told.evidence.startswith("AssertionError: SGLANG_CPU_OMP_THREADS_BIND is not set")
    assert "AssertionError" in told.cause


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        pytest.param(None, [], id="still-running"),
        pytest.param(End(0), [], id="ended-well"),
        pytest.param(End(1), ["exception"], id="failed"),
    ],
)
def test_a_traceback_tells_the_cause_only_of_an_engine_that_failed(end, expected):
    lines = [
        "Traceback (most recent call last):",
        '  File "a.py", line 1',
        "KeyError: 'hidden_size'",
    ]
    assert keys(diagnose(lines, end))[:1] == expected


NOISE = [
    pytest.param(
        "[2026-11-23 07:23:35] Ignore import error when loading sglang.srt.models.grok: no kernel "
        "image is available for execution on the device",
        id="import-error",
    ),
    pytest.param(
        f"{STAMP}Custom allreduce is disabled because this process group spans across nodes.",
        id="custom-allreduce-0.5.3",
    ),
    pytest.param(
        f"{STAMP}Custom all-reduce is disabled because this process group spans across nodes.",
        id="custom-allreduce-0.5.23",
    ),
    pytest.param(
        f"{STAMP}Setup Custom allreduce failed with . To silence this warning, specify "
        "--disable-custom-all-reduce explicitly.",
        id="custom-allreduce-setup",
    ),
    pytest.param("    raise LocalEntryNotFoundError(", id="source-of-a-traceback"),
    pytest.param(
        '[2026-11-23 07:47:57] HTTP Request: GET https://huggingface.co/api/models/x "HTTP/1.1 401 '
        'Unauthorized"',
        id="http-request",
    ),
    pytest.param(
        "[2026-11-23 07:42:06] Scheduler or DataParallelController 3424 terminated with 0",
        id="ended-well",
    ),
    pytest.param(
        "[W1123 07:37:47 socket.cpp:755] [c10d] The client socket has failed to connect to "
        "[spark-1]:50000 (errno: 111 - Connection refused).",
        id="first-tries-to-connect",
    ),
    pytest.param("the model said: unauthorized: connect: connection refused", id="docker-words"),
]


@pytest.mark.parametrize("line", NOISE)
def test_noise_is_no_fault(line):
    assert diagnose([line], End(0)) == ()


def test_defect_24_exit_code_137_alone_is_not_out_of_memory():
    (told,) = diagnose(log("served-rank0"), End(137))
    assert told.key == "ended"
    assert "not for want of memory" in told.cause


def test_defect_24_oom_killed_is_out_of_memory_and_comes_first():
    told = diagnose(log("lost-rank0"), End(137, oom_killed=True))
    assert keys(told) == ["oom-killed", "peer-gone", "child-died"]


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
        pytest.param(End(0, restarts=3), "ended", "started again, 3 times", id="restarts"),
    ],
)
def test_an_exit_code_tells_what_it_can(end, key, words):
    (told,) = diagnose([], end)
    assert told.key == key
    assert words in told.cause


def test_a_refused_flag_is_told_once_with_its_line():
    line = "launch_server.py: error: unrecognized arguments: --torchao-config"
    (told,) = diagnose([line], End(2))
    assert (
        told.cause == "the engine refuses its arguments: unrecognized arguments: --torchao-config"
    )
    assert told.evidence == line


def test_consequences_stand_behind_the_cause():
    lines = [
        f"{STAMP}Received sigquit from a child process. It usually means the child failed.",
        "RuntimeError: Connection reset by peer. This is typically caused by a remote worker",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "[2026-11-23 07:39:24] OpenAI Responses API (/v1/responses) disabled: x",
    ]
    told = diagnose(lines)
    assert keys(told) == ["cuda-oom", "peer-gone", "child-died", "tiktoken"]
    assert [d.weight for d in told] == [
        *(Weight.CAUSE, Weight.PEER, Weight.CONSEQUENCE, Weight.NOTE),
    ]


def test_a_graph_that_ran_out_of_memory_is_told_once():
    lines = [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 2.00 GiB",
        "1. set --mem-fraction-static to a smaller value (e.g., 0.8 or 0.7)",
    ]
    (told,) = diagnose(lines)
    assert told.key == "graph-oom"


def test_a_note_alone_does_not_explain_an_end():
    note = "[2026-11-23 07:39:24] OpenAI Responses API (/v1/responses) disabled: x"
    assert keys(diagnose([note], End(137))) == ["ended", "tiktoken"]


def test_what_a_rank_has_overcome_is_no_fault():
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


def test_a_group_is_told_by_the_rank_that_failed_first():
    told = group_diagnosis(
        {"head": (log("lost-rank0"), End(137)), "worker": (log("lost-rank1"), End(0))}
    )
    assert [(rank, d.key) for rank, d in told] == [
        ("worker", "child-killed"),
        ("head", "peer-gone"),
        ("head", "child-died"),
    ]


def test_a_group_that_lost_nobody_keeps_its_order():
    oom = ["torch.OutOfMemoryError: CUDA out of memory."]
    told = group_diagnosis({"head": (oom, None), "worker": (oom, End(1))})
    assert [(rank, d.key) for rank, d in told] == [("head", "cuda-oom"), ("worker", "cuda-oom")]


def test_evidence_has_no_colours_and_is_short():
    line = f"\x1b[31m{'x' * 300} CUDA out of memory {'y' * 300}\x1b[0m"
    (told,) = diagnose([line])
    assert told.evidence.startswith("…CUDA out of memory")
    assert len(told.evidence) <= EVIDENCE_LENGTH
    assert "\x1b" not in told.evidence


DOCKER_TEXTS = [
    pytest.param(
        "Error response from daemon: manifest for lmsysorg/sglang:nope not found: manifest "
        "unknown: "
        "manifest unknown",
        *("image-not-found", "lmsysorg/sglang:nope"),
        id="no-such-tag",
    ),
    pytest.param(
        'Error response from daemon: failed to resolve reference "docker.io/lmsysorg/sglang:nope": '
        "docker.io/lmsysorg/sglang:nope: not found",
        *("image-not-found", "docker.io/lmsysorg/sglang:nope"),
        id="no-such-tag-containerd",
    ),
    pytest.param(
        "Error response from daemon: No such image: lmsysorg/sglang:spark",
        *("image-not-found", "lmsysorg/sglang:spark"),
        id="not-on-the-node",
    ),
    pytest.param(
        "Error response from daemon: pull access denied for acme/none, repository does not "
        "exist or "
        "may require 'docker login': denied: requested access to the resource is denied",
        *("image-denied", "acme/none"),
        id="pull-access-denied",
    ),
    pytest.param(
        "Error response from daemon: unauthorized: authentication required",
        *("image-denied", "the image"),
        id="unauthorized",
    ),
    pytest.param(
        'Error response from daemon: Head "https://reg.example/v2/a/manifests/1": no basic auth '
        "credentials",
        *("image-denied", "login"),
        id="no-credentials",
    ),
    pytest.param(
        'Error response from daemon: Get "https://registry-1.docker.io/v2/": dial tcp: lookup '
        "registry-1.docker.io on 127.0.0.53:53: no such host",
        *("registry-down", "registry-1.docker.io"),
        id="no-such-host",
    ),
    pytest.param(
        'Error response from daemon: Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: '
        "connect: connection refused",
        *("registry-down", "127.0.0.1:5000"),
        id="connection-refused",
    ),
    pytest.param(
        'Error response from daemon: Get "https://registry-1.docker.io/v2/": net/http: request '
        "canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
        *("registry-down", "registry-1.docker.io"),
        id="time-out",
    ),
    pytest.param(
        'Error response from daemon: Get "https://reg.example/v2/": tls: failed to verify '
        "certificate: x509: certificate signed by unknown authority",
        *("registry-tls", "certificate"),
        id="tls",
    ),
    pytest.param(
        'Error response from daemon: Get "https://127.0.0.1:5000/v2/": http: server gave HTTP '
        "response to HTTPS client",
        *("registry-tls", "certificate"),
        id="plain-http",
    ),
    pytest.param(
        "toomanyrequests: You have reached your unauthenticated pull rate limit.",
        *("rate-limit", "pulls"),
        id="rate-limit",
    ),
    pytest.param(
        'invalid diffID for layer 0: expected "sha256:73032ee", got "sha256:c3599ee"',
        *("image-corrupt", "damaged"),
        id="image-corrupt",
    ),
    pytest.param(
        "Error processing tar file(exit status 1): unexpected EOF",
        *("image-cut", "broke off"),
        id="image-cut",
    ),
    pytest.param(
        "failed to register layer: write /usr/lib/libcublas.so: no space left on device",
        *("disk-full", "disk"),
        id="disk-full",
    ),
    pytest.param(
        'docker: Error response from daemon: could not select device driver "" with capabilities: '
        "[[gpu]].",
        *("no-gpu-runtime", "NVIDIA runtime"),
        id="no-nvidia-runtime",
    ),
    pytest.param(
        "docker: Error response from daemon: unknown or invalid runtime name: nvidia",
        *("no-gpu-runtime", "NVIDIA runtime"),
        id="no-nvidia-runtime-by-name",
    ),
    pytest.param(
        "failed to create task for container: failed to create shim task: OCI runtime create "
        "failed: "
        "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
        *("driver-not-loaded", "driver"),
        id="driver-not-loaded",
    ),
    pytest.param(
        "nvidia-container-cli: device error: 7: unknown device: unknown",
        *("gpu-unusable", "GPU"),
        id="unknown-device",
    ),
    pytest.param(
        'docker: Error response from daemon: Conflict. The container name "/sglang-head" is '
        "already "
        'in use by container "4f2d". You have to remove (or rename) that container.',
        *("name-conflict", "sglang-head"),
        id="name-conflict",
    ),
    pytest.param(
        "Error response from daemon: driver failed programming external connectivity on "
        "endpoint a: "
        "Bind for 0.0.0.0:30000 failed: port is already allocated",
        *("port-conflict", "port 30000"),
        id="port-allocated",
    ),
    pytest.param(
        "Error response from daemon: failed to set up container networking: driver failed "
        "programming external connectivity: failed to bind host port for 0.0.0.0:30000:172.17.0.2:"
        "30000/tcp: address already in use",
        *("port-conflict", "port 30000"),
        id="port-in-use",
    ),
    pytest.param(
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon "
        "running?",
        *("docker-stopped", "daemon"),
        id="daemon-stopped",
    ),
    pytest.param(
        "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is "
        "correct and if the daemon is running: dial unix /var/run/docker.sock: connect: no "
        "such file",
        *("docker-stopped", "daemon"),
        id="daemon-stopped-29",
    ),
    pytest.param(
        "permission denied while trying to connect to the Docker daemon socket at "
        "unix:///var/run/docker.sock: Get "
        '"http://%2Fvar%2Frun%2Fdocker.sock/v1.50/containers/json":'
        " dial unix /var/run/docker.sock: connect: permission denied",
        *("docker-denied", "login"),
        id="no-permission",
    ),
    pytest.param(
        "permission denied while trying to connect to the docker API at "
        "unix:///var/run/docker.sock",
        *("docker-denied", "login"),
        id="no-permission-29",
    ),
    pytest.param(
        "bash: line 1: docker: command not found", "docker-missing", "not installed", id="no-docker"
    ),
    pytest.param(
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
        *("image-arch", "processor"),
        id="not-for-arm",
    ),
    pytest.param(
        "exec /usr/bin/python3: exec format error", "image-arch", "processor", id="not-executable"
    ),
    pytest.param("docker: invalid reference format", "bad-image-name", "name", id="bad-image-name"),
    pytest.param(
        'docker: Error response from daemon: invalid mount config for type "bind": bind '
        "source path "
        "does not exist: /raid/hf-cache",
        *("mount-missing", "/raid/hf-cache"),
        id="mount-missing",
    ),
    pytest.param(
        'OCI runtime create failed: runc create failed: exec: "python3": executable file not found '
        "in $PATH: unknown",
        *("no-such-command", "command"),
        id="no-python",
    ),
]


@pytest.mark.parametrize(("text", "key", "words"), DOCKER_TEXTS)
def test_an_error_of_docker_has_its_cause_and_cure(text, key, words):
    told = docker_error(f"1ab2: Pulling fs layer\n{text}\n\nRun 'docker run --help' for more")
    assert told is not None
    assert told.key == key
    assert words in told.cause
    assert told.cure


def test_every_symptom_of_docker_is_shown_by_a_test():
    texts = [p.values[0] for p in DOCKER_TEXTS]
    shown = {s.key for s in symptoms("docker") if any(map(s.match, texts))}
    assert {s.key for s in symptoms("docker")} == shown


def test_the_image_asked_for_is_named_where_docker_does_not():
    told = docker_error("Error response from daemon: manifest unknown", "lmsysorg/sglang:v9")
    assert told is not None
    assert told.cause.startswith("lmsysorg/sglang:v9 ")


def test_words_that_docker_does_not_say_are_no_diagnosis():
    assert docker_error("Status: Downloaded newer image for lmsysorg/sglang:spark") is None


NCCL = "spark-1:123:456 [0] NCCL INFO "
RDMA_LOG = [
    f"{NCCL}Bootstrap: Using enp1s0f1np1:169.254.1.1<0>",
    f"{NCCL}NET/IB : Made virtual device [0] name=rocep1s0f1 speed=200000 ndevs=1",
    f"{NCCL}NET/IB : Using [0]rocep1s0f1:1/RoCE [RO]; OOB enp1s0f1np1:169.254.1.1<0>",
    f"{NCCL}NET/Socket : Using [0]enp1s0f1np1:169.254.1.1<0>",
    f"{NCCL}Using network IB",
    f"{NCCL}Channel 00/0 : 0[0] -> 1[0] [send] via NET/IB/0",
]
TCP_LOG = [
    f"{NCCL}NET/IB : No device found.",
    f"{NCCL}NET/Socket : Using [0]enp1s0f1np1:169.254.1.1<0>",
    f"{NCCL}Using network Socket",
    f"{NCCL}Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0",
]


@pytest.mark.parametrize(
    ("lines", "kind", "evidence"),
    [
        pytest.param(RDMA_LOG, "rdma", "via NET/IB/0", id="rdma"),
        pytest.param(RDMA_LOG[:5], "rdma", "Using network IB", id="rdma-no-channel-yet"),
        pytest.param(RDMA_LOG[:3], "rdma", "NET/IB : Using [0]rocep1s0f1", id="rdma-devices"),
        pytest.param(RDMA_LOG[:2], "rdma", "Made virtual device", id="rdma-virtual-device"),
        pytest.param(
            [f"{NCCL}NET/IB : No device found.", f"{NCCL}Using network IBext_v10"],
            *("rdma", "IBext_v10"),
            id="plugin",
        ),
        pytest.param(
            [f"{NCCL}Channel 00/0 : 1[0] -> 0[0] [receive] via NET/IBext_v10/0/GDRDMA"],
            *("rdma", "IBext_v10"),
            id="plugin-channel",
        ),
        pytest.param(TCP_LOG, "tcp", "via NET/Socket/0", id="tcp"),
        pytest.param(TCP_LOG[:3], "tcp", "Using network Socket", id="tcp-no-channel-yet"),
        pytest.param(TCP_LOG[:1], "tcp", "No device found", id="tcp-no-device"),
        pytest.param([*RDMA_LOG[:5], TCP_LOG[-1]], "tcp", "via NET/Socket/0", id="channels-decide"),
        pytest.param([*RDMA_LOG, *TCP_LOG], "unknown", "NET/Socket/0", id="they-disagree"),
        pytest.param(["Using network IB", "via NET/IB/0"], "unknown", "", id="not-nccl's-words"),
        pytest.param([], "unknown", "", id="nothing"),
    ],
)
def test_the_transport_is_read_from_nccl(lines, kind, evidence):
    told = transport(lines)
    assert told.kind == kind
    assert evidence in told.evidence


def test_gloo_has_no_transport_to_prove():
    assert transport(log("served-rank0")).kind == "unknown"


@pytest.mark.parametrize("lines", [RDMA_LOG, TCP_LOG], ids=["rdma", "tcp"])
def test_grep_selects_just_the_lines_that_tell_the_transport(lines):
    noise = [f"{NCCL}Bootstrap: Using enp1s0f1np1", "Using network IB", *log("served-rank0")]
    found = subprocess.run(
        ["grep", "-E", TRANSPORT_PATTERN],
        input="\n".join([*noise, *lines]),
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout.splitlines()
    assert found == [n for n in lines if "NET/Socket : " not in n and "Bootstrap" not in n]
    assert transport(found) == transport(lines)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("Init parallel begin.", "initialising torch distributed", id="init-0.5.23"),
        pytest.param(
            "Init torch distributed begin.", "initialising torch distributed", id="init-0.5.3"
        ),
        pytest.param(
            "Init parallel ends. elapsed=6.79 s", "loading weights", id="init-ends-0.5.23"
        ),
        pytest.param(
            "Init torch distributed ends. mem usage=0.21 GB",
            "loading weights",
            id="init-ends-0.5.3",
        ),
        pytest.param("Load weight begin. avail mem=101.00 GB", "loading weights", id="load"),
        pytest.param(
            "Loading safetensors checkpoint shards:  40% Completed | 2/5 [00:12<00:18,  6.1s/it]",
            "loading weights",
            id="shards",
        ),
        pytest.param("Load weight end. type=Qwen2ForCausalLM", "allocating KV cache", id="loaded"),
        pytest.param("KV Cache is allocated. #tokens: 8192", "allocating KV cache", id="kv"),
        pytest.param(
            "Capture cuda graph begin. This can take up to several minutes. avail mem=9.00 GB",
            "capturing CUDA graphs",
            id="capture-0.5.3",
        ),
        pytest.param(
            "Capture target decode CUDA graph begin. backend=full, num_tokens_per_req=1",
            "capturing CUDA graphs",
            id="capture-0.5.23",
        ),
        pytest.param("Capture cuda graph end. Time elapsed: 9.1 s.", "warming up", id="captured"),
        pytest.param(
            "max_total_num_tokens=8192, chunked_prefill_size=4096", "warming up", id="pool"
        ),
        pytest.param("The server is fired up and ready to roll!", "ready", id="ready"),
        pytest.param(
            "Dummy health check server started in background thread at 0.0.0.0:30000",
            "ready",
            id="worker-0.5.23",
        ),
        pytest.param(
            "Starting dummy health check server at 0.0.0.0:30000", "ready", id="worker-0.5.3"
        ),
    ],
)
def test_the_last_step_of_loading_is_told(line, words):
    assert phase(["Init parallel begin.", STAMP + line, "Prefill batch, #new-seq: 1"]) == words


def test_the_steps_of_a_real_start_come_in_their_order():
    lines = log("served-rank0")
    told = [phase(lines[: i + 1]) for i in range(len(lines))]
    assert list(dict.fromkeys(told)) == [
        *("", "initialising torch distributed", "loading weights", "allocating KV cache"),
        *("warming up", "ready"),
    ]


def test_an_engine_that_starts_again_is_not_ready():
    assert phase([*log("served-rank0"), f"{STAMP}Init parallel begin."]) == (
        "initialising torch distributed"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param(
            "0.00.007.674 I srv    load_model: loading model '/models/SmolLM2.gguf'",
            "loading weights",
            id="loading",
        ),
        pytest.param(
            "0.00.664.270 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 2048",
            "allocating KV cache",
            id="slots",
        ),
        pytest.param(
            "0.00.666.046 I srv          init: listening on http://127.0.0.1:39471",
            "ready",
            id="listening",
        ),
        pytest.param(
            "ready: HuggingFaceTB/SmolLM2-135M-Instruct at http://127.0.0.1:39471 (llama.cpp)",
            "ready",
            id="ready",
        ),
    ],
)
def test_llama_cpp_has_steps_too(line, words):
    assert (
        phase(["starting: HuggingFaceTB/SmolLM2-135M-Instruct as sglang-head", line, ""]) == words
    )


def test_nothing_known_is_no_phase():
    assert phase(["", "hello"]) == ""

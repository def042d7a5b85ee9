"""What an engine's log says: its last words, the step it is at, the transport of NCCL."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster.engine.log import (
    TRANSPORT_PATTERN,
    capture_progress,
    clean,
    meaningful_lines,
    phase,
    transport,
)

LOGS = Path(__file__).parent / "logs"
STAMP = "[2026-11-23 07:38:16 TP0] "


def log(name: str) -> list[str]:
    return (LOGS / f"{name}.log").read_text().splitlines()


SAID = "[2026-11-23 11:54:15] SIGQUIT received. signum=None, frame=None. It usually means one child"


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param("nanobind: leaked 64 types!", id="count"),
        pytest.param(' - leaked type "triton._C.libtriton.ir.location"', id="type"),
        pytest.param(
            ' - leaked instance 0x7f0a24736a68 of type "triton._C.libtriton.ir.attribute"',
            id="instance",
        ),
        pytest.param(" - ... skipped remainder", id="remainder"),
        pytest.param("See https://nanobind.readthedocs.io/en/latest/refleaks.html", id="link"),
        pytest.param("", id="empty"),
    ],
)
def test_routine_shutdown_noise_is_left_out(noise: str) -> None:
    assert meaningful_lines([SAID, *[noise] * 30], 12) == (SAID,)


def test_a_long_argument_line_is_shortened() -> None:
    shown = meaningful_lines([f"server_args={{{'x' * 30_000}}}", SAID], 12)
    assert [len(line) for line in shown] == [300, len(SAID)]


def test_only_so_many() -> None:
    assert meaningful_lines(["a", "b", "c"], 2) == ("b", "c")


def test_a_progress_bar_shows_its_last_state() -> None:
    assert meaningful_lines(["0%\r50%\r100%"], 12) == ("100%",)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        pytest.param("\x1b[31mred\x1b[0m", "red", id="colors"),
        pytest.param("a\x1b[\x1b[0m2Jb", "a2Jb", id="one-inside-another"),
        pytest.param("a\x1b[2J\x1b[1;1Hb", "ab", id="the-screen-cleared"),
        pytest.param("a\x1bcb", "ab", id="reset"),
        pytest.param("a\x1b(0b\x1b(B", "ab", id="another-set-of-signs"),
        pytest.param("a\x1b]0;title\x07b", "ab", id="title"),
        pytest.param("a\x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\", "ab", id="link"),
        pytest.param("a\x1b]0;title without an end", "a", id="title-without-an-end"),
        pytest.param("a\x1bP1$r0m\x1b\\b", "ab", id="device-control"),
        pytest.param("a\x1b_message\x1b\\b\x1b^private\x1b\\c", "abc", id="messages"),
        pytest.param("a\x9b31mb\x9d0;title\x9cc\x85d", "abcd", id="c1"),
        pytest.param("a\x07\x08\x00b\x7f", "ab", id="c0"),
        pytest.param("a\x1b", "a", id="cut-off"),
        pytest.param("a\x1b[", "a", id="cut-off-later"),
        pytest.param("1%\r\x1b[K2%\r\n", "2%", id="progress-bar"),
        pytest.param("a\tb", "a b", id="tab"),
        pytest.param("\u202eevil", "?evil", id="bidirectional"),
    ],
)
def test_nothing_that_controls_a_terminal_is_left(line: str, shown: str) -> None:
    assert clean(line) == shown


def test_a_very_long_line_keeps_both_ends() -> None:
    shown = clean(f"begin {'x' * 1_000_000} end")
    assert len(shown) < 5_000
    assert shown.startswith("begin x")
    assert shown.endswith("x end")


# ---- the step, and the transport

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
    nccl = transport(lines)
    assert nccl.kind == kind
    assert evidence in nccl.evidence


def test_gloo_has_no_transport_to_prove():
    assert transport(log("served-rank0")).kind == "unknown"


@pytest.mark.parametrize("lines", [RDMA_LOG, TCP_LOG], ids=["rdma", "tcp"])
def test_grep_selects_just_the_lines_that_tell_the_transport(lines):
    noise = [f"{NCCL}Bootstrap: Using enp1s0f1np1", "Using network IB", *log("served-rank0")]
    result = subprocess.run(
        ["grep", "-E", TRANSPORT_PATTERN],
        input="\n".join([*noise, *lines]),
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout.splitlines()
    assert result == [n for n in lines if "NET/Socket : " not in n and "Bootstrap" not in n]
    assert transport(result) == transport(lines)


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
def test_the_last_loading_step_is_reported(line, words):
    assert phase(["Init parallel begin.", STAMP + line, "Prefill batch, #new-seq: 1"]) == words


def test_the_steps_of_a_real_start_come_in_their_order():
    lines = log("served-rank0")
    phases = [phase(lines[: i + 1]) for i in range(len(lines))]
    assert list(dict.fromkeys(phases)) == [
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


def test_an_empty_log_has_no_phase():
    assert phase(["", "hello"]) == ""


def test_the_phase_is_known_despite_nccl_lines():
    assert phase(log("nccl-start")) == "initialising torch distributed"


LOCAL_LOG = [
    f"{NCCL}Using network Socket",
    f"{NCCL}Channel 00/0 : 0[0] -> 1[1] via P2P/IPC",
]


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        pytest.param(LOCAL_LOG, "local", id="two-gpus-of-one-machine"),
        pytest.param([f"{NCCL}Channel 00 : 0[0] -> 1[1] via SHM/direct/direct"], "local", id="shm"),
        pytest.param([*LOCAL_LOG, *RDMA_LOG], "rdma", id="and-rdma-between-machines"),
        pytest.param(
            [f"{NCCL}NET/IB : No device found.", f"{NCCL}NET/IB : Using [RO]; OOB lo:127.0.0.1<0>"],
            "tcp",
            id="a-flag-is-no-device",
        ),
        pytest.param(
            [f"{NCCL}NET/IB : Using [0]={{[0] rocep1s0f1:1/RoCE, [1] roceP2p1s0f1:1/RoCE}} [RO]"],
            "rdma",
            id="a-merged-device",
        ),
    ],
)
def test_local_channels_and_flags_are_not_a_network(lines, kind):
    assert transport(lines).kind == kind


# As `docker logs` has it: one line, which Docker shows once the bar is complete.
BAR = "\r".join(
    f"Capturing batches (bs={size} avail_mem=15.18 GB):  {done * 33}%|███▎   | {done}/3 [00:02<]"
    for done, size in enumerate((4, 2, 1))
)


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        (BAR, "2 of 3"),
        (
            "Capturing num tokens (num_tokens=64 avail_mem=9.00 GB): 4%|x | 1/22 [00:02<00:05]",
            "1 of 22",
        ),
        (
            "Compiling num tokens (num_tokens=4096):   0%|          | 0/58 [00:00<?, ?it/s]",
            "0 of 58",
        ),
        ("[2026-11-26 20:05:33 TP0] Capture cuda graph bs [1, 2, 4]", ""),
        ("Capture target decode CUDA graph begin. backend=full, bs=[1, 2]", ""),
        ("Capture Frozen-KV MTP draft cuda graph begin.", ""),
    ],
)
def test_a_capture_and_how_far_it_is(line, progress):
    assert phase([line]) == "capturing CUDA graphs"
    assert capture_progress([line, ""]) == progress


def test_a_bar_of_more_lines_than_are_kept_keeps_its_phase():
    bar = [f"Capturing batches (bs={n} avail_mem=1.00 GB): 1%|x| {n}/60 [00:02<" for n in range(60)]
    assert phase(bar[-40:]) == "capturing CUDA graphs"
    assert capture_progress(bar[-40:]) == "59 of 60"

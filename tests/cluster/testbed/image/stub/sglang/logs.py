"""The log lines that tell what a rank is doing, in SGLang's words."""

import json
import os
import sys
import threading
import time

from sglang import OLD

SHOWN = ("NCCL_", "GLOO_", "UCX_", "TP_", "SGLANG_", "NVIDIA_", "HF_", "TIKTOKEN_")
LOCK = threading.Lock()


def log(message, process=""):
    with LOCK:
        print(
            f"[{time.strftime('%Y-%m-%d %H:%M:%S')}{process}] {message}",
            file=sys.stderr,
            flush=True,
        )


def scheduler(rank, message):
    log(message, f" TP{rank}")


def started(args, version):
    log(f"STUB engine: no model, no GPU; plays SGLang {version}")
    # as the real ones do, a key given by --api-key included
    options = ", ".join(f"{k}={v!r}" for k, v in vars(args).items())
    log(f"server_args=ServerArgs({options})" if OLD else f"server_args={vars(args)}")
    log(f"STUB environment: {json.dumps(environment(), sort_keys=True)}")
    if path := os.environ.get("HF_TOKEN_PATH"):
        state = "readable" if has_token() else "missing, unreadable or empty"
        log(f"STUB token file: {path}: {state}")


def environment():
    """What was set for the engine, no secret's value."""
    shown = {k: v for k, v in os.environ.items() if k.startswith(SHOWN)}
    return {k: "(set)" if k.endswith(("TOKEN", "KEY")) else v for k, v in shown.items()}


def has_token():
    try:
        with open(os.environ.get("HF_TOKEN_PATH", "")) as file:
            return bool(file.read().strip())
    except OSError:
        return False


def gated(model, code):
    """What Hugging Face's own client says, on standard error, of a gated model."""
    why = {
        "401": "401 Client Error.",
        "403": "403 Client Error. (Your request to access it is awaiting a review.)",
    }[code]
    print(
        f"OSError: You are trying to access a gated repo.\n"
        f"Make sure to have access to it at https://huggingface.co/{model}.\n{why}\n\n"
        f"Cannot access gated repo for url https://huggingface.co/{model}/resolve/main/config.json.\n"
        f"Access to model {model} is restricted. You must have access to it and be authenticated "
        f"to access it. Please log in.",
        file=sys.stderr,
    )


def init_begin(rank):
    scheduler(rank, "Init torch distributed begin." if OLD else "Init parallel begin.")


def init_end(rank, seconds):
    if OLD:
        scheduler(rank, "Init torch distributed ends. mem usage=0.00 GB")
    else:
        scheduler(rank, f"Init parallel ends. elapsed={seconds:.2f} s")


def load_begin(rank):
    scheduler(rank, "Load weight begin. avail mem=101.00 GB")
    scheduler(rank, "Loading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]")


def load_end(rank):
    elapsed, dtype = ("", "") if OLD else ("elapsed=0.05 s, ", "dtype: torch.bfloat16, ")
    sizes = "avail mem=100.00 GB, mem usage=1.00 GB."
    scheduler(rank, f"Load weight end. {elapsed}type=StubForCausalLM, {sizes}")
    tokens = "#tokens: 8192, K size: 0.00 GB, V size: 0.00 GB"
    scheduler(rank, f"KV Cache is allocated. {dtype}{tokens}")
    scheduler(rank, "Memory pool end. avail mem=99.00 GB")


def has_graphs(args):
    given = vars(args).get
    return not given("disable_cuda_graph") and given("cuda_graph_backend_decode") != "disabled"


def capture_begin(rank):
    if not OLD:
        words = "backend=full, num_tokens_per_req=1, bs=[1, 2, 4], avail mem=99.00 GB"
        scheduler(rank, f"Capture target decode CUDA graph begin. {words}")
        return
    words = "This can take up to several minutes. avail mem=99.00 GB"
    scheduler(rank, f"Capture cuda graph begin. {words}")
    if rank == 0:
        scheduler(rank, "Capture cuda graph bs [1, 2, 4]")


def capture_end(rank):
    if OLD:
        words = "Time elapsed: 0.10 s. mem usage=0.04 GB. avail mem=98.00 GB."
        scheduler(rank, f"Capture cuda graph end. {words}")
    else:
        words = "elapsed=0.10 s, mem usage=0.04 GB, avail mem=98.00 GB."
        scheduler(rank, f"Capture target decode CUDA graph end. {words}")


def pool(rank):
    scheduler(
        rank,
        "max_total_num_tokens=8192, chunked_prefill_size=4096, max_prefill_tokens=16384, "
        "max_running_requests=4096, context_len=32768, available_gpu_mem=99.00 GB",
    )

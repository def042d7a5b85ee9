"""What can be made to go wrong, by the container's environment or by the model's name.

    STUB_LOAD_SECONDS=0.05    how long the weights take
    STUB_WARMUP_SECONDS=0.02  from the open port to the first healthy answer
    STUB_HEALTH_SECONDS=0.05  what /health takes (the real one: 1 s)
    STUB_TOKEN_SECONDS=0      pause before each token of an answer
    STUB_EXIT_RANK=N          rank N dies while it loads
    STUB_EXIT_CAUSE=TEXT      … of this (default: a CUDA out of memory)
    STUB_NEVER_READY=1        the port opens, and /health stays 503
    STUB_SERVE_AS=OTHER/MODEL the id that /v1/models lists
    STUB_GATED=401            the weights need a token: without a readable one at HF_TOKEN_PATH,
                              Hugging Face's refusal and exit 1; 403: whatever the token
    STUB_COMPLETION_FAILS=1   completions answer 500, all else is well
    STUB_NONSENSE=KIND        its answers are wrong in this way: one of answers.NONSENSE
    STUB_NCCL=2.29.7          the NCCL that it logs
    STUB_CAPTURE_STOPS=1      the capture of CUDA graphs, where they are on, never ends

    STUB_BY_MODEL={"ORG/NAME": {"STUB_NEVER_READY": "1"}}   any of these for some models alone

A model called stub/NAME has the faults of BY_MODEL, and any model takes the environment's.
A file stub-nonsense in the hub's cache names a KIND for any model, while it is there.
SIGUSR1 to rank 0's process is a scheduler that dies while the HTTP server lives on: no request is
answered any more, /metrics counts no token, and /health says 503 after its timeout; after SIGUSR2
/health says 200, as the real one's with SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION=false.
SGLANG_HEALTH_CHECK_TIMEOUT=20 is the real one's: seconds until /health gives up on lost ranks.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace

BY_MODEL = {
    "stub/exit-rank-0": {"STUB_EXIT_RANK": "0"},
    "stub/exit-rank-1": {"STUB_EXIT_RANK": "1"},
    "stub/never-ready": {"STUB_NEVER_READY": "1"},
    "stub/serves-another": {"STUB_SERVE_AS": "another/model"},
    "stub/gated": {"STUB_GATED": "401"},
    "stub/not-accepted": {"STUB_GATED": "403"},
    "stub/completion-fails": {"STUB_COMPLETION_FAILS": "1"},
    "stub/slow": {"STUB_LOAD_SECONDS": "15"},
    "stub/nonsense": {"STUB_NONSENSE": "bangs"},
}
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


class Faults(SimpleNamespace):
    load_seconds: float
    warmup_seconds: float
    health_seconds: float
    health_timeout: float
    token_seconds: float
    exit_rank: int | None
    exit_cause: str
    never_ready: bool
    serve_as: str
    gated: str
    completion_fails: bool
    capture_stops: bool
    always_nonsense: str
    nonsense_file: Path

    def nonsense(self):
        """What is wrong with an answer that is given now, "" where it is right."""
        try:
            return self.nonsense_file.read_text().strip()
        except OSError:
            return self.always_nonsense


def faults(model):
    by_model = json.loads(os.environ.get("STUB_BY_MODEL", "{}"))
    settings = {**BY_MODEL.get(model, {}), **os.environ, **by_model.get(model, {})}
    rank = settings.get("STUB_EXIT_RANK", "")
    return Faults(
        load_seconds=float(settings.get("STUB_LOAD_SECONDS", 0.05)),
        warmup_seconds=float(settings.get("STUB_WARMUP_SECONDS", 0.02)),
        health_seconds=float(settings.get("STUB_HEALTH_SECONDS", 0.05)),
        health_timeout=float(settings.get("SGLANG_HEALTH_CHECK_TIMEOUT", 20)),
        token_seconds=float(settings.get("STUB_TOKEN_SECONDS", 0)),
        exit_rank=int(rank) if rank else None,
        exit_cause=settings.get("STUB_EXIT_CAUSE", OUT_OF_MEMORY),
        never_ready=bool(settings.get("STUB_NEVER_READY")),
        serve_as=settings.get("STUB_SERVE_AS", ""),
        gated=settings.get("STUB_GATED", ""),
        completion_fails=bool(settings.get("STUB_COMPLETION_FAILS")),
        capture_stops=bool(settings.get("STUB_CAPTURE_STOPS")),
        always_nonsense=settings.get("STUB_NONSENSE", ""),
        nonsense_file=Path(os.environ.get("HF_HOME", "/"), "hub/stub-nonsense"),
    )

"""Stands in for sglang-kernel, which has no CPU wheel: what SGLang's CPU path calls, in torch.

SGLang imports it whatever the device; without AMX everything but this function falls back to
SGLang's own forward_native.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__version__ = "0.4.10+standin"


def assign_req_to_token_pool_cpu(
    req_pool_indices: Any,
    req_to_token: Any,
    start_offset: Any,
    end_offset: Any,
    out_cache_loc: Any,
    *_: object,
) -> None:
    """Note for each request which slots of the KV cache its new tokens take."""
    taken = 0
    for i, request in enumerate(req_pool_indices.tolist()):
        start, end = int(start_offset[i]), int(end_offset[i])
        slots = out_cache_loc[taken : taken + end - start]
        req_to_token[request, start:end] = slots.to(req_to_token.dtype)
        taken += end - start


def __getattr__(name: str) -> Callable[..., None]:
    """Any other kernel can be imported, and fails when called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_: object, **__: object) -> None:
        raise NotImplementedError(f"sgl_kernel's stand-in has no {name}")

    return missing

"""The documents that spark-cluster gets from the project."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster.reports.listing import catalog_entries

RANK = {
    "rank": 0,
    "node": "spark-1",
    "container": "sglang-head",
    "state": "running",
    "health": 200,
    "phase": "",
    "lost": "",
    "uptime": 93780,
    "restarts": 0,
    "exit_code": None,
    "oom_killed": False,
    "image": "8eaaa6cd1a4e",
    "spec": "fdab27b164c7",
    "memory_used": 10 * 2**30,
    "memory_total": 125 * 2**30,
    "gpu_watts": 3.7,
}


LOAD = dict.fromkeys(("running", "queued", "tokens_per_second", "kv_cache", "cache_hits"))


TOLD: dict[str, Any] = {
    "wanted": "acme/m",
    "state": "ready",
    "url": "http://198.18.0.1:30000",
    "served": ["acme/m"],
    "load": LOAD,
    "holder": None,
    "ranks": [RANK, {**RANK, "rank": 1, "node": "spark-2", "container": "sglang-worker-1"}],
    "unread": [],
    "drift": [],
    "unsure": "",
    "leftovers": [],
}


def probed(name: str, **changed: Any) -> dict[str, Any]:
    """A healthy Spark's line of the probe."""
    usual = {
        "name": name, "lost": "", "cure": "", "hostname": name, "gpu": "NVIDIA GB10",
        "driver": "580.126.09", "ports": ["enp1s0f1np1 192.168.100.10/24"], "docker": "29.1.0",
        "hf_cache": "writable", "free_bytes": 2905 * 10**9, "python": "3.12.3",
    }  # fmt: skip
    return usual | changed


QWEN7B, QWEN72B = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-72B-Instruct"


def document(*, runs: str = "", **changed: Any) -> dict[str, Any]:
    """Two nodes that have chosen qwen72b; `runs`: what their ranks serve."""
    names = ("spark-1", "spark-2")
    listing = {
        "light": False,
        "model": QWEN72B,
        "ranks": [{"node": name, "model": runs} for name in names if runs],
        "nodes": [{"name": name} for name in names],
        "catalogue": msgspec.to_builtins(catalog_entries()),
        "notes": [],
    }
    return {"listing": listing | changed, "present": {"spark-1": {}, "spark-2": {}}}


def stock(count: int, complete: bool = True) -> dict[str, Any]:
    return {"complete": complete, "bytes": count, "revision": "abc"}

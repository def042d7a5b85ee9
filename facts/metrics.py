"""The load that a server tells of itself at /metrics, which is open even where a key is asked."""

from __future__ import annotations

import re
from math import isfinite

from pyinfra.api import StringCommand

from cluster.status import Load
from facts.fact import Fact
from facts.shell import joined, quoted

# SGLang's names, and llama.cpp's for the same → ours. SGLang has one line a rank of its group.
NAMES = {
    "sglang:num_running_reqs": "running",
    "sglang:num_queue_reqs": "queued",
    "sglang:gen_throughput": "tokens_per_second",
    "sglang:token_usage": "kv_cache",
    "sglang:cache_hit_rate": "cache_hits",
    "llamacpp:requests_processing": "running",
    "llamacpp:requests_deferred": "queued",
    "llamacpp:predicted_tokens_seconds": "tokens_per_second",
    "llamacpp:kv_cache_usage_ratio": "kv_cache",
}
_PICK = f"^({'|'.join(NAMES)})[{{ ]"
_LINE = re.compile(r"^(?P<name>[\w:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_MODEL = re.compile(r'(?:^|,)model_name="((?:[^"\\]|\\.)*)"')
# A load balancer's worth of ranks would be told one by one.
_LINES = 64


class Metrics(Fact[Load]):
    """Requests that run and wait, tokens a second, and the share of the KV cache in use.

    + url: where rank 0 serves, as its own node reaches it
    + seconds: to wait for it
    """

    @staticmethod
    def default() -> Load:
        return Load()

    def command(self, url: str, seconds: int = 5) -> StringCommand:
        asked = ("curl", "-s", "--noproxy", "*", "-m", str(seconds), f"{url}/metrics")
        pick = ("grep", "-m", str(_LINES), "-E", _PICK)
        return joined(quoted(asked), " | ", quoted(pick), " || :")

    def parse(self, output: list[str]) -> Load:
        found: dict[str, list[float]] = {}
        model = ""
        for line in output:
            told = _LINE.match(line)
            value = _number(told["value"]) if told and told["name"] in NAMES else None
            if told is None or value is None:
                continue
            found.setdefault(NAMES[told["name"]], []).append(value)
            labelled = _MODEL.search(told["labels"] or "")
            model = model or (labelled[1] if labelled else "")
        # Every tensor-parallel rank tells the same: the largest is the group's.
        return Load(model=model, **{name: max(values) for name, values in found.items()})


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if isfinite(value) else None

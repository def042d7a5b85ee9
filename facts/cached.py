"""Which models' weights lie in a node's Hugging Face cache."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api import QuoteString, StringCommand

from cluster.node.readings import Weights
from facts.fact import Fact
from facts.shell import joined
from facts.weights import ModelWeights

MARK = "=== cached"


class CachedModels(Fact[dict[str, Weights]]):
    """What the cache has of each of these models, by one command; {} where it has none of them.

    + models: ids on the hub
    + hf_cache: an HF_HOME
    """

    default = staticmethod(dict[str, Weights])

    def command(self, models: Sequence[str], hf_cache: str) -> StringCommand:
        return StringCommand(*(_one(model, hf_cache) for model in models), _separator="\n")

    def parse(self, output: list[str]) -> dict[str, Weights]:
        told: dict[str, list[str]] = {}
        lines = list[str]()
        for line in output:
            mark, _, model = line.partition(f"{MARK} ")
            if not mark and model:
                lines = told[model] = list[str]()
            else:
                lines.append(line)
        seen = {model: ModelWeights().process(lines) for model, lines in told.items()}
        return {model: weights for model, weights in seen.items() if weights.bytes}


def _one(model: str, hf_cache: str) -> StringCommand:
    """A subshell of its own: the reading of a model that is not there exits."""
    mark = StringCommand("printf '%s\\n'", QuoteString(f"{MARK} {model}"))
    return joined(mark, "; (\n", ModelWeights().command(model, hf_cache), "\n) || :")

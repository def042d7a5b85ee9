"""SGLang's launch line: which words start it, and what its argument parser would refuse."""

from cluster.sglang.launch import Launch, argv
from cluster.sglang.options import RECORDED
from cluster.sglang.pairs import at_odds
from cluster.sglang.parser import problems
from cluster.sglang.versions import Hole, dp_attention_needed, holes, key, known_version

__all__ = [
    "RECORDED",
    "Hole",
    "Launch",
    "argv",
    "at_odds",
    "dp_attention_needed",
    "holes",
    "key",
    "known_version",
    "problems",
]

"""A model's files on the nodes: which are wanted, what is there, how they come."""

from __future__ import annotations

from cluster.transfer.weights.vocabularies import TIKTOKEN, copied, place
from cluster.transfer.weights.words import hub_folder, place_token

__all__ = ["TIKTOKEN", "copied", "hub_folder", "place", "place_token"]

"""The listing, and what every node has of every model, as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.listing import Listing
from cluster.node.readings import Weights

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Stock:
    """What a node's cache has of one model.

    + complete: all of its weights; else a download is under way, or was left
    + bytes: of the weights that are there
    """

    complete: bool
    bytes: int
    revision: str = ""


@dataclass(frozen=True, kw_only=True)
class Document:
    """The document.

    + present: node → id of a model of the catalogue → what is there; models without a byte are
      left out, and a node that could not be read is not in it (`listing.notes` says why)
    """

    version: int = VERSION
    listing: Listing
    present: Mapping[str, Mapping[str, Stock]]


def document(listing: Listing, found: Mapping[str, Mapping[str, Weights]]) -> Document:
    """The document of what these caches hold, by node."""
    return Document(
        listing=listing,
        present={
            node: {
                model: Stock(complete=w.complete, bytes=w.bytes, revision=w.revision)
                for model, w in models.items()
            }
            for node, models in found.items()
        },
    )

"""The listing, and what every node has of every model, as one JSON document."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.node.readings import Weights
from cluster.reports.listing import Listing

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """What a node's cache has of one model.

    + complete: all of its weights; else a download is under way, or was left
    + bytes: of the weights that are there
    """

    complete: bool
    bytes: int
    revision: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelsDocument:
    """The document.

    + present: node → id of a model of the catalogue → what is there; models without a byte are
      left out, and a node that could not be read is not in it (`listing.notes` says why)
    """

    version: int = VERSION
    listing: Listing
    present: Mapping[str, Mapping[str, CachedModel]]


def models_document(listing: Listing, found: Mapping[str, Mapping[str, Weights]]) -> ModelsDocument:
    """The document of what these caches hold, by node."""
    return ModelsDocument(
        listing=listing,
        present={
            node: {
                model: CachedModel(complete=w.complete, bytes=w.bytes, revision=w.revision)
                for model, w in models.items()
            }
            for node, models in found.items()
        },
    )

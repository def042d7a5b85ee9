"""The document of `deploys/unused.py`: what no group uses any more, by node."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cluster.findings import Finding
from cluster.transfer.prune_plan import StoredItem


class UnusedItem(msgspec.Struct, frozen=True, kw_only=True):
    """+ kind: "weights", "image" or "compiled"
    + name: for a reader
    + bytes: on the node's disk
    + left: why it is not removed; "" where `deploys/prune.py` removes it
    """

    kind: str
    name: str
    bytes: int
    left: str = ""


class NodeUnused(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    unused: tuple[UnusedItem, ...]


class UnusedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """+ notes: why a removal would be refused now"""

    version: int = 1
    nodes: tuple[NodeUnused, ...]
    notes: tuple[str, ...] = ()


def unused_document(
    items: Mapping[str, Sequence[StoredItem]], busy: Iterable[Finding]
) -> UnusedDocument:
    return UnusedDocument(
        nodes=tuple(
            NodeUnused(
                name=node,
                unused=tuple(
                    UnusedItem(kind=i.kind, name=i.shown, bytes=i.bytes, left=i.why)
                    for i in of_node
                ),
            )
            for node, of_node in items.items()
        ),
        notes=tuple(map(str, busy)),
    )

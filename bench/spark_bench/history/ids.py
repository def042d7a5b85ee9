"""The result that a user means by the beginning of its id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spark_bench.errors import BadInput
from spark_bench.formats import did_you_mean

# As many as fit a sentence.
SHOWN = 3


def tail(id: str) -> str:
    """What `history list` shows of an id: the part that is chance.

    >>> tail("20261123T133805250Z-0a1b2c3d")
    '0a1b2c3d'
    """
    return id.rpartition("-")[2]


def resolve(word: str, ids: Sequence[str]) -> str:
    """The one id that begins like `word`, or whose tail does; BadInput for none or several."""
    if word in ids:
        return word
    found = [id for id in ids if id.startswith(word) or tail(id).startswith(word)] if word else []
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(
            f"id {word!r} is the beginning of {len(found)} results ({_some(found)}): "
            "give more of it"
        )
    raise BadInput(f"id {word!r} is not in the history{_nearest(word, ids)}")


def _nearest(word: str, ids: Sequence[str]) -> str:
    if not ids:
        return ", which is empty"
    names = [name for id in ids for name in (id, tail(id))]
    return (
        did_you_mean(word, names, SHOWN, cutoff=0.5) or ": spark-bench history list shows what is"
    )


def _some(ids: Iterable[str]) -> str:
    shown = list(ids)
    rest = ", …" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + rest

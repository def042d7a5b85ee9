"""Which models of the catalogue are meant by what was typed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from spark_bench.errors import BadInput
from spark_bench.project import Model


def chosen(words: Sequence[str], catalogue: Sequence[Model]) -> list[Model]:
    """The models called by number, alias or id, in the order typed and each once. BadInput for
    each word that names none."""
    names = _names(catalogue)
    unknown = [word for word in words if word.lower() not in names]
    if unknown:
        raise BadInput("; ".join(_complaint(word, names, catalogue) for word in unknown))
    return list({names[word.lower()].id: names[word.lower()] for word in words}.values())


def _names(catalogue: Sequence[Model]) -> dict[str, Model]:
    """Everything that a model may be called, in small letters."""
    return {
        name.lower(): model
        for model in catalogue
        for name in (str(model.number) if model.number else "", model.alias, model.id)
        if name
    }


def _complaint(word: str, names: dict[str, Model], catalogue: Sequence[Model]) -> str:
    if word.lstrip("-").isdigit():
        numbers = [model.number for model in catalogue if model.number]
        there = f"numbers are {min(numbers)} to {max(numbers)}" if numbers else "none has a number"
        return f"--models {word}: no model of the catalogue has this number; {there}"
    near = difflib.get_close_matches(word.lower(), [n for n in names if not n.isdigit()], n=3)
    nearest = list(dict.fromkeys(names[name].alias or names[name].id for name in near))
    if nearest:
        return f"--models {word}: is not in the catalogue; did you mean {' or '.join(nearest)}?"
    known = ", ".join(model.alias or model.id for model in catalogue)
    return f"--models {word}: is not in the catalogue; there are: {known}"

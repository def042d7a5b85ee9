"""What is converged and measured, in which order, and what is not, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from spark_bench.errors import BadInput
from spark_bench.project import Listing, Model
from spark_bench.suite.asked import Asked, Settings
from spark_bench.suite.choose import chosen
from spark_bench.suite.vary import label

# A folder's longest name is 255 bytes, and an ending follows.
LONGEST_NAME = 150
NO_TOKEN = (
    "it is gated, and there is no Hugging Face token here: accept its license at the hub, then: "
    "hf auth login, or export HF_TOKEN=…; if its weights are on the nodes already, use "
    "--no-skip-token"
)


class Cell(Struct, frozen=True, kw_only=True):
    """One thing to converge and to measure.

    name: unique, fit for a file's name
    model: the hub's id
    short: what people call it
    variant: the settings tried here, in words; "": none
    settings: besides the model, for --data
    served: the id in /v1/models
    weight_bytes: of the checkpoint; None where not known
    skip: why it is not measured; "": it is
    """

    name: str
    model: str
    short: str
    variant: str = ""
    settings: Settings = {}
    nodes: int = 0
    tp: int = 0
    pp: int = 0
    served: str = ""
    weight_bytes: int | None = None
    skip: str = ""

    @property
    def data(self) -> Settings:
        """Everything for --data."""
        return {"model": self.model, **self.settings}


class Verdict(Struct, frozen=True):
    """What the project says of a cell's settings; see its cluster/feasible.py."""

    errors: tuple[str, ...] = ()
    model: str = ""
    served_model_name: str = ""
    nodes: int = 0
    tp: int = 0
    pp: int = 0
    mem_fraction: float = 0.0
    weight_bytes: int | None = None
    lacks_token: bool = False


def cells(asked: Asked, listing: Listing) -> list[Cell]:
    """All that was asked for, models in their order, a model's variants side by side.

    listing: of the project, as its inventory declares it
    """
    nodes = len(listing.nodes)
    if asked.nodes == "all" and nodes < 2:
        raise BadInput(
            f"--multi-node: inventory {asked.inventory} has {nodes} node: list its workers, or "
            "leave the option out"
        )
    models = chosen(asked.models, listing.catalogue) if asked.models else _servable(listing)
    made = [
        _cell(model, variant, _spread(asked, variant, nodes), asked)
        for model in models
        for variant in asked.variants
    ]
    return list(_named(made))


def judged(
    cells: Sequence[Cell], verdicts: Sequence[Verdict], skip_token: bool | None
) -> list[Cell]:
    """The same, with what the project says of each: what it would refuse is skipped, and what
    could not be downloaded for want of a token unless skip_token is False."""
    return [
        _judged(cell, verdict, skip_token is not False)
        for cell, verdict in zip(cells, verdicts, strict=True)
    ]


def refuse_empty(cells: Sequence[Cell]) -> None:
    """BadInput where nothing is left to measure."""
    if any(not cell.skip for cell in cells):
        return
    reasons = dict.fromkeys(f"{cell.name}: {cell.skip}" for cell in cells)
    shown = "\n  ".join(list(reasons)[:5])
    more = f"\n  … and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    raise BadInput(f"no model is left to measure:\n  {shown}{more}" if cells else "no model to run")


def slug(text: str) -> str:
    """Fit for a file's name on every system.

    >>> slug("tp=2 mem_fraction=0.8"), slug("Qwen/Qwen2.5")
    ('tp2-mem_fraction0.8', 'Qwen-Qwen2.5')
    """
    return re.sub(r"[^\w.]+", "-", text.replace("=", "")).strip("-.")[:LONGEST_NAME] or "model"


def _servable(listing: Listing) -> list[Model]:
    """The whole catalogue, without what only another runtime serves: a laptop's model is not for
    Sparks, nor theirs for it."""
    runtimes = {model.id: model.runtime for model in listing.catalogue}
    ours = runtimes.get(listing.model, "docker")
    return [model for model in listing.catalogue if model.runtime == ours]


def _spread(asked: Asked, variant: Settings, nodes: int) -> Settings:
    """Over which nodes: as asked; one GPU in all is the head's."""
    if nodes < 2 or "head_only" in variant:
        return {}
    if asked.nodes:
        return {"head_only": asked.nodes == "one"}
    ranks = [variant.get("tensor_parallel"), variant.get("pipeline_parallel", 1)]
    return {"head_only": True} if ranks == [1, 1] else {}


def _cell(model: Model, variant: Settings, spread: Settings, asked: Asked) -> Cell:
    short = model.alias or model.id.rpartition("/")[2]
    words = label(variant)
    return Cell(
        name=slug(f"{short}_{words}" if words else short),
        model=model.id,
        short=short,
        variant=words,
        settings={**variant, **spread},
        skip="it is gated (--skip-token)" if model.gated and asked.skip_token else "",
    )


def _named(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Names that are the same once characters are replaced get a number."""
    seen: dict[str, int] = {}
    for cell in cells:
        key = cell.name.lower()
        seen[key] = seen.get(key, 0) + 1
        yield cell if seen[key] == 1 else replace(cell, name=f"{cell.name}_{seen[key]}")


def _judged(cell: Cell, verdict: Verdict, token_needed: bool) -> Cell:
    known: dict[str, Any] = {
        "nodes": verdict.nodes,
        "tp": verdict.tp,
        "pp": verdict.pp,
        "served": verdict.served_model_name or cell.model,
        "weight_bytes": verdict.weight_bytes,
    }
    token = NO_TOKEN if verdict.lacks_token and token_needed else ""
    why = "; ".join(verdict.errors) or _without_effect(cell, verdict) or token
    return replace(cell, **known, skip=cell.skip or why)


def _without_effect(cell: Cell, verdict: Verdict) -> str:
    """From the head alone one GPU serves, whatever else is set."""
    for name, came in (("tensor_parallel", verdict.tp), ("pipeline_parallel", verdict.pp)):
        wanted = cell.settings.get(name, came)
        if wanted not in (came, "auto"):
            return f"{name}={wanted} has no effect with head_only=true: it would be {came}"
    return ""

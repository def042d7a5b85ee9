"""An owner's entry of a model with a draft model, for the folder `catalog` beside an inventory."""

from __future__ import annotations

from pathlib import Path

MODEL, DRAFT = "own/target", "own/draft"
ENTRY = """
id = "{model}"
alias = "target"
weight_bytes = {bytes}
default_variant = "fast"

[image]
reference = "lmsysorg/sglang:spark"
publisher = "SGLang's project"

[[drafts]]
id = "{draft}"
revision = "{revision}"
weight_bytes = {draft_bytes}
gated = {gated}

[[variants]]
name = "fast"
evidence = "derived"

[variants.speculation]
algorithm = "EAGLE3"
draft = "{draft}"
num_steps = 3
eagle_topk = 1
num_draft_tokens = 4

[[variants]]
name = "plain"
evidence = "derived"
"""


def write_entry(
    folder: Path,
    revision: str = "",
    *,
    gated: bool = False,
    weight_bytes: int = 9_000_000,
    draft_bytes: int = 1_000_000,
) -> None:
    """Write the entry beside an inventory in this folder.

    + revision: a commit of the draft's repository; "": the newest
    """
    file = folder / "catalog/target.toml"
    file.parent.mkdir(exist_ok=True)
    text = ENTRY.format(
        model=MODEL,
        draft=DRAFT,
        revision=revision,
        bytes=weight_bytes,
        draft_bytes=draft_bytes,
        gated=str(gated).lower(),
    )
    file.write_text(text)

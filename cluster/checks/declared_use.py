"""A declared launch as `Use`, and its memory table as lines."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from cluster import printable
from cluster.catalog.entry import DraftModel, Model
from cluster.catalog.memory import CUDA_SHARE, Use, memory_rows, memory_table, use_of_options
from cluster.engine.options import RECORDED, parse_options
from cluster.node.readings import NodeFacts
from cluster.plan.specs import mem_fraction, parallelism
from cluster.settings.declaration import Declaration
from cluster.settings.resolve import DRAFT_PATH


def declared_use(
    wanted: Declaration, model: Model, nodes: Sequence[NodeFacts], version: str
) -> Use:
    """What a declaration comes to; extra_args win over all else, as in the launch line.

    + nodes: that serve; what other groups hold is read from the labels of their ranks
    + version: SGLang's, which the options are spelled for; "" for the newest recorded
    """
    settings, catalog = wanted.common, wanted.catalog
    tp, pp = parallelism(wanted)
    words = (*catalog.arguments, *settings.extra_args)
    given = parse_options(words, version or RECORDED[0]) if words else {}
    fraction = mem_fraction(settings, model)
    with suppress(ValueError):
        stated = float(given.get("--mem-fraction-static", ""))
        fraction = stated if 0 < stated < 1 else fraction
    context = None if settings.context_length == "auto" else settings.context_length
    if (longest := given.get("--context-length", "")).isdecimal() and len(longest) < 10:
        context = int(longest)
    named, draft = given.get(DRAFT_PATH, model.id), catalog.draft
    if draft is None and named != model.id:
        draft = DraftModel(id=named)

    def others_bytes(node: NodeFacts) -> float:
        """Bytes that ranks of other groups may hold on a node: the fraction that each is started
        with, of all the memory."""
        specs = [rank.spec for rank in node.ranks if rank.alive and rank.spec]
        fractions = (
            spec.launch.mem_fraction or 0
            for spec in specs
            if spec.group != settings.group and spec.runtime == "docker"
        )
        return min(1, sum(fractions)) * node.memory.total * CUDA_SHARE if node.memory else 0

    return use_of_options(
        given,
        nodes=len(wanted.names),
        tp=tp,
        pp=pp,
        graphs=settings.disable_cuda_graph is not True,
        mem_fraction=fraction,
        kv_cache_dtype=given.get("--kv-cache-dtype") or settings.kv_cache_dtype,
        context_length=context or None,
        draft=draft,
        offloaded_bytes=catalog.offloaded_bytes,
        others_bytes=max(map(others_bytes, nodes), default=0),
    )


def memory_lines(
    wanted: Declaration, model: Model, nodes: Sequence[NodeFacts], version: str
) -> Iterator[str]:
    """The memory of one node, a part in each line; nothing for the embedded engine, or where no
    node's memory was read."""
    total = min((n.memory.total for n in nodes if n.memory), default=None)
    if total is None or wanted.common.runtime == "process":
        return
    table = memory_table(model, total, declared_use(wanted, model, nodes, version))
    yield f"one node of {len(nodes)}, {printable.gigabytes(total)} in all"
    for name, size, how in memory_rows(table):
        yield f"{name:<16} {size:>9}  {how}"

"""The parts of the catalog that spark-bench has: two files that `make docs` writes, since
spark-bench installs alone."""

from collections.abc import Iterator

from cluster.catalog.models import catalog

SHAPE = (
    *("embedding_bytes", "layers", "kv_heads", "head_dim", "kv_latent_dim", "window"),
    *("windowed_layers", "experts", "experts_per_token", "expert_bytes"),
)
FIGURES = ("decode", "prefill", "output_throughput", "ttft_ms", "itl_ms")


def shapes() -> Iterator[dict[str, object]]:
    """The rows of spark-bench's models.toml: models whose shape is known. A None is left out."""
    for model in catalog():
        if model.shape.embedding_bytes is None:
            continue
        for id in (model.id, *model.same_shapes):
            yield {
                "id": id,
                "weight_bytes": model.weight_bytes,
                **{name: getattr(model.shape, name) for name in SHAPE},
                "stored": None if model.quantization == "BF16" else model.quantization,
            }


def published() -> Iterator[dict[str, object]]:
    """The rows of spark-bench's published.toml: the published figures that it can compare."""
    for model in catalog():
        for one in model.published:
            if any(getattr(one, name) for name in FIGURES):
                measured = one.model or model.id
                yield {
                    "models": list(dict.fromkeys([measured, model.id, *model.same_shapes])),
                    "nodes": one.nodes,
                    "parallelism": one.parallelism,
                    "engine": one.engine,
                    "quantization": one.quantization or model.quantization,
                    "streams": one.streams,
                    "input_len": one.input_tokens,
                    "output_len": one.output_tokens,
                    **{name: getattr(one, name) for name in FIGURES},
                    "source": one.source,
                }

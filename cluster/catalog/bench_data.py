"""What spark-bench, which installs alone, has of the catalog: two files that `make docs` writes."""

from cluster.catalog.entry import Model, PublishedFigures
from cluster.catalog.models import catalog

FIGURES = ("decode", "prefill", "output_throughput", "ttft_ms", "itl_ms")


def shapes() -> list[dict[str, object]]:
    """models.toml of spark-bench: models whose shape is known. None: left out there."""
    models = [m for m in catalog() if m.shape.embedding_bytes is not None]
    return [_shape(model, id) for model in models for id in (model.id, *model.same_shapes)]


def _shape(model: Model, id: str) -> dict[str, object]:
    shape = model.shape
    return {
        "id": id,
        "weight_bytes": model.weight_bytes,
        "embedding_bytes": shape.embedding_bytes,
        "layers": shape.layers,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "kv_latent_dim": shape.kv_latent_dim,
        "window": shape.window,
        "windowed_layers": shape.windowed_layers,
        "experts": shape.experts,
        "experts_per_token": shape.experts_per_token,
        "expert_bytes": shape.expert_bytes,
        "stored": None if model.quantization == "BF16" else model.quantization,
    }


def published() -> list[dict[str, object]]:
    """published.toml of spark-bench: the figures that it can compare."""
    return [
        _figures(model, one)
        for model in catalog()
        for one in model.published
        if any(getattr(one, name) for name in FIGURES)
    ]


def _figures(model: Model, one: PublishedFigures) -> dict[str, object]:
    measured = one.model or model.id
    return {
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

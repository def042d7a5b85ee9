"""The parts of the catalog that spark-bench has: three files that `make docs` writes, since
spark-bench installs alone."""

from collections.abc import Iterator
from dataclasses import asdict

from cluster.catalog.models import catalog

SHAPE = (
    *("embedding_bytes", "layers", "kv_heads", "head_dim", "kv_latent_dim", "window"),
    *("windowed_layers", "experts", "experts_per_token", "expert_bytes"),
)
FIGURES = (
    *("tpot_ms", "itl_ms", "ttft_ms", "decode", "decode_sum", "prefill"),
    *("output_throughput", "total_per_gpu"),
)


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
    """The rows of spark-bench's published.toml: the published figures of speed. What is not
    stated is left out."""
    for model in catalog():
        for one in model.published:
            if any(getattr(one, name) for name in FIGURES):
                measured = one.model or model.id
                yield {
                    "models": list(dict.fromkeys([measured, model.id, *model.same_shapes])),
                    "nodes": one.nodes,
                    "parallelism": one.parallelism,
                    "variant": one.variant or None,
                    "setting": one.setting or None,
                    "engine": one.engine or None,
                    "quantization": one.quantization or model.quantization,
                    "evidence": one.evidence,
                    "workload": one.workload or None,
                    "protocol": one.protocol or None,
                    "cache": one.cache or None,
                    "prompts": one.prompts,
                    "streams": one.streams,
                    "input_len": one.input_tokens,
                    "output_len": one.output_tokens,
                    **{name: getattr(one, name) for name in FIGURES},
                    "note": one.note or None,
                    "source": one.source,
                }


def scores() -> Iterator[dict[str, object]]:
    """The rows of spark-bench's scores.toml: the published scores. What is not stated is left
    out."""
    for model in catalog():
        for one in model.published:
            if one.score is not None:
                stated = {k: None if v == "" else v for k, v in asdict(one.score).items()}
                yield {
                    "models": [one.model or model.id],
                    "setting": one.variant or one.setting or None,
                    "quantization": one.quantization or model.quantization,
                    "evidence": one.evidence,
                    **stated,
                    "source": one.source,
                }

"""What expectations rest on: the setting of a result, and the roofline of its memory."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct, toml

from spark_bench.results.provenance_schema import Provenance, SettingValue as Value
from spark_bench.results.schema import Result

About = Literal["roofline", "published"]
Verdict = Literal["healthy", "slow", "far below", "impossible", "bound", "beside", "unknown"]


class Expectation(Struct, frozen=True, kw_only=True):
    """A result next to what it could be, or to what others have measured.

    about: the decode roofline, or a published figure
    verdict: "healthy", "slow", "far below" and "impossible" judge it; "bound": only a bound is
        known; "beside": compared without a verdict; "unknown": `text` says why
    text: all of it in one sentence
    metric: "decode" (tokens per second of one stream), or a key of the summary
    measured, expected: in the metric's unit
    low, high: the interval of `measured` over the run's repeats; None: there was one
    setting: what `expected` was measured or computed for
    source: where it comes from
    """

    about: About
    verdict: Verdict
    text: str
    metric: str = ""
    measured: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    setting: str = ""
    source: str = ""

    @property
    def share(self) -> float | None:
        """measured / expected; None if either is unknown."""
        if self.measured is None or not self.expected:
            return None
        return self.measured / self.expected


# LPDDR5X-8533 on 256 bits: 273 GB/s in NVIDIA's DGX Spark data sheet; one GPU per node.
BANDWIDTH = 273e9


class ServedShape(Struct, frozen=True, kw_only=True):
    """How a model is served, as far as it determines what a step reads.

    tp: nodes that a layer is split over. Pipeline stages (PP) run one after another, so they make
        a single stream no faster
    weight_scale: bytes per weight as served over bytes per weight in the checkpoint
    kv_bytes: bytes per number in the KV cache
    """

    shape: ModelShape
    tp: int = 1
    weight_scale: float = 1.0
    kv_bytes: float = 2.0


def weight_bytes(reading: ServedShape, streams: float = 1.0) -> float:
    """Bytes of weights that a step with `streams` streams reads, over all nodes."""
    shape = reading.shape
    whole = float(shape.weight_bytes - shape.embedding_bytes)
    if shape.experts:
        whole -= shape.expert_bytes * (1 - experts_read(shape, streams) / shape.experts)
    return whole * reading.weight_scale


def experts_read(shape: ModelShape, streams: float) -> float:
    """How many of a layer's experts a step reads on average if texts choose them evenly.

    They don't quite, so fewer are read; exact for one stream.
    """
    missed: float = (1 - shape.experts_per_token / shape.experts) ** streams
    return shape.experts * (1 - missed)


def kv_bytes(reading: ServedShape, context: float) -> float:
    """Bytes of KV cache that a stream with `context` tokens reads per step, on one node."""
    shape = reading.shape
    tokens = (shape.layers - shape.windowed_layers) * context
    tokens += shape.windowed_layers * min(context, shape.window)
    if shape.kv_latent_dim is not None:  # one vector, whole on every rank
        return tokens * shape.kv_latent_dim * reading.kv_bytes
    # A rank holds at least one head.
    heads = max(1.0, shape.kv_heads / reading.tp)
    return tokens * 2 * heads * shape.head_dim * reading.kv_bytes


def tokens_per_second(reading: ServedShape, context: float, streams: float = 1.0) -> float:
    """The speed of each of `streams` streams of `context` tokens; for one stream an upper bound."""
    share = weight_bytes(reading, streams) / reading.tp
    return BANDWIDTH / (share + streams * kv_bytes(reading, context))


_FILE = Path(__file__).with_name("models.toml")


class ModelShape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decoding reads of a model; models.toml describes the fields.

    stored: the weights' format ("BF16", "FP8", "MXFP4")
    """

    id: str
    weight_bytes: int
    embedding_bytes: int
    layers: int
    kv_heads: int
    head_dim: int
    kv_latent_dim: int | None = None
    window: int = 0
    windowed_layers: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_bytes: int = 0
    stored: str = "BF16"


@cache
def model_shapes() -> dict[str, ModelShape]:
    """Models of known size by lower-case id."""
    tables: dict[str, list[ModelShape]] = toml.decode(
        _FILE.read_bytes(), type=dict[str, list[ModelShape]]
    )
    return {shape.id.lower(): shape for shape in tables["models"]}


def hub_id(name: str) -> str:
    """A model's id on the Hub, even if `name` is its folder in the Hub's cache.

    >>> hub_id("/root/.cache/huggingface/hub/models--openai--gpt-oss-20b/snapshots/1f2e")
    'openai/gpt-oss-20b'
    >>> hub_id("Qwen/Qwen2.5-7B-Instruct")
    'Qwen/Qwen2.5-7B-Instruct'
    """
    cached = re.search(r"(?:^|/)models--([^/]+?)--([^/]+)", name)
    return f"{cached[1]}/{cached[2]}" if cached else name


# The two clusters of a GB10's CPU in /proc/cpuinfo; the product name in NVIDIA's firmware.
_GB10_CPU = "Cortex-X925 + Cortex-A725"
_SPARK = "DGX Spark"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Values of sglang 0.5.23's --quantization that store BF16 weights in one byte each.
_ONE_BYTE = ("fp8", "w8a8_fp8", "w8a8_int8", "modelopt_fp8")


class ServedSetting(Struct, frozen=True, kw_only=True):
    """What serves. "" and None: unknown.

    engine: its name ("sglang", "vllm", "llama.cpp")
    nodes, tp, pp: Sparks, and how the model is split over them
    quantization: "BF16", "FP8", "MXFP4", or the engine's own name
    weight_scale: bytes per weight over the checkpoint's; None: unknown for this quantization
    speculative: the algorithm, if the engine decodes speculatively
    elsewhere: why it may not run on Sparks; "": it does
    """

    model: str
    shape: ModelShape | None
    engine: str
    nodes: int | None
    tp: int | None
    pp: int
    quantization: str
    weight_scale: float | None
    kv_bytes: float
    speculative: str
    elsewhere: str

    @property
    def parallelism(self) -> str:
        """ "TP2", "PP2", "TP2 PP2"."""
        parts = [f"{name}{n}" for name, n in (("TP", self.tp), ("PP", self.pp)) if n and n > 1]
        return " ".join(parts) or "TP1"


def setting_of(result: Result) -> ServedSetting:
    """The setting of a result, from its provenance."""
    server, engine_settings = result.provenance.server, EngineSettings(result.provenance)
    model, shape = _model(result)
    quantization, scale = _served_format(engine_settings.text("quantization"), shape)
    return ServedSetting(
        model=model,
        shape=shape,
        engine=server.engine or "",
        nodes=engine_settings.nodes(),
        tp=engine_settings.number("tp_size", "tp"),
        pp=engine_settings.number("pp_size", "pp") or 1,
        quantization=quantization,
        weight_scale=scale,
        kv_bytes={"fp4": 0.5, "fp8": 1.0}.get(engine_settings.text("kv_cache_dtype")[:3], 2.0),
        speculative=engine_settings.text("speculative_algorithm"),
        elsewhere=why_not_on_sparks(result),
    )


class EngineSettings:
    """The engine's own settings, else what the project started it with."""

    def __init__(self, provenance: Provenance) -> None:
        self.settings = provenance.server.settings
        deployment = provenance.deployment
        self.ranks = len(deployment.ranks) if deployment else 0
        self.launch = deployment.launch if deployment else {}

    def number(self, setting: str, launched: str) -> int | None:
        """A positive number: the engine's setting, or the launch's; None: neither has it."""
        for value in (self.settings.get(setting), self.launch.get(launched)):
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return None

    def nodes(self) -> int | None:
        """Nodes that serve; None: not known."""
        return self.ranks or self.number("nnodes", "nnodes")

    @property
    def speculates(self) -> bool | None:
        """Whether it decodes speculatively; None: not known. An engine that lists its other
        settings (SGLang) lists this one only if it does."""
        if self.text("speculative_algorithm"):
            return True
        return False if "tp_size" in self.settings else None

    def text(self, setting: str) -> str:
        """A text, or the word after its option among the user's arguments; "": neither has it."""
        value: Value | None = self.settings.get(setting)
        return value if isinstance(value, str) else self._word(setting)

    def _word(self, setting: str) -> str:
        """The value of an option in the user's extra_args."""
        option = f"--{setting.replace('_', '-')}"
        words = [str(word) for word in self.launch.get("extra_args") or ()]
        for index, word in enumerate(words):
            name, _, value = word.partition("=")
            if name == option:
                return value or "".join(words[index + 1 : index + 2])
        return ""


def _model(result: Result) -> tuple[str, ModelShape | None]:
    """The first of its names with a known size, else the requested name."""
    for name in model_names(result.provenance, result.config.model):
        if shape := model_shapes().get(name.lower()):
            return shape.id, shape
    return result.config.model or result.provenance.server.model or "the model", None


def model_names(provenance: Provenance, requested: str) -> tuple[str, ...]:
    """What the model that serves is called: by the engine, the project, the API and the request."""
    server, deployment = provenance.server, provenance.deployment
    path = server.settings.get("model_path")
    names = [path, deployment.model if deployment else "", server.model, requested]
    return tuple(dict.fromkeys(hub_id(name) for name in names if name and isinstance(name, str)))


def _served_format(quantization: str, shape: ModelShape | None) -> tuple[str, float | None]:
    stored = shape.stored if shape else "BF16"
    if quantization.lower() in ("", "none", stored.lower()):
        return stored, 1.0
    if quantization.lower() in _ONE_BYTE and stored == "BF16":
        return "FP8" if "fp8" in quantization.lower() else "INT8", 0.5
    return quantization, None


def why_not_on_sparks(result: Result) -> str:
    """Why it may not have been served by Sparks; "" if it was.

    The project serves on Sparks, except with its embedded engine, which has no image. Without a
    deployment, the server may run on the client's own machine.
    """
    deployment, machine = result.provenance.deployment, result.provenance.machine
    if deployment:
        embedded = not all(rank.image for rank in deployment.ranks)
        return "the embedded engine serves, not a Spark" if embedded else ""
    host = urlsplit(result.config.url).hostname or ""
    if host not in (*_LOOPBACK, (machine.hostname or "").lower()):
        return "nothing but its URL is known: it may not be a Spark"
    if _SPARK in (machine.product or "") or machine.cpu == _GB10_CPU:
        return ""
    return "this machine is not a Spark"

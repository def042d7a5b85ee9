"""In which setting a result was measured, as far as expectations depend on it."""

from __future__ import annotations

from urllib.parse import urlsplit

from msgspec import Struct

from spark_bench.expectations.roofline import ModelShape, hub_id, model_shapes
from spark_bench.results.schema import Result
from spark_bench.results.schema import SettingValue as Value

# The two clusters of a GB10's CPU, as /proc/cpuinfo has them; the firmware's word for NVIDIA's own.
_GB10_CPU = "Cortex-X925 + Cortex-A725"
_SPARK = "DGX Spark"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Names of sglang 0.5.23's --quantization that store BF16 weights in one byte each.
_ONE_BYTE = ("fp8", "w8a8_fp8", "w8a8_int8", "modelopt_fp8")


class ServedSetting(Struct, frozen=True, kw_only=True):
    """What serves. "" and None: not known.

    engine: as it calls itself ("sglang", "vllm", "llama.cpp")
    nodes, tp, pp: Sparks, and how the model is split over them
    quantisation: "BF16", "FP8", "MXFP4", or the engine's own word
    weight_scale: bytes of a weight over the checkpoint's; None: not known for this quantisation
    speculative: the algorithm, where the engine decodes speculatively
    elsewhere: why it is not known to run on Sparks; "": it does
    """

    model: str
    shape: ModelShape | None
    engine: str
    nodes: int | None
    tp: int | None
    pp: int
    quantisation: str
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
    server, told = result.provenance.server, _EngineSettings(result)
    model, shape = _model(result)
    quantisation, scale = _quantised(told.text("quantization"), shape)
    return ServedSetting(
        model=model,
        shape=shape,
        engine=server.engine or "",
        nodes=told.nodes(),
        tp=told.number("tp_size", "tp"),
        pp=told.number("pp_size", "pp") or 1,
        quantisation=quantisation,
        weight_scale=scale,
        kv_bytes=_kv_bytes(told.text("kv_cache_dtype")),
        speculative=told.text("speculative_algorithm"),
        elsewhere=why_not_on_sparks(result),
    )


class _EngineSettings:
    """What the engine says of itself, else what the project started it with."""

    def __init__(self, result: Result) -> None:
        self.settings = result.provenance.server.settings
        deployment = result.provenance.deployment
        self.ranks = len(deployment.ranks) if deployment else 0
        self.launch = deployment.launch if deployment else {}

    def number(self, setting: str, launched: str) -> int | None:
        for value in (self.settings.get(setting), self.launch.get(launched)):
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return None

    def nodes(self) -> int | None:
        return self.ranks or self.number("nnodes", "nnodes")

    def text(self, setting: str) -> str:
        value: Value | None = self.settings.get(setting)
        return value if isinstance(value, str) else self._word(setting)

    def _word(self, setting: str) -> str:
        """The value of an option among the user's own words for the engine."""
        option = f"--{setting.replace('_', '-')}"
        words = [str(word) for word in self.launch.get("extra_args") or ()]
        for index, word in enumerate(words):
            name, _, value = word.partition("=")
            if name == option:
                return value or "".join(words[index + 1 : index + 2])
        return ""


def _model(result: Result) -> tuple[str, ModelShape | None]:
    """The first of its names that is known, or else the name it was asked for by."""
    server, deployment = result.provenance.server, result.provenance.deployment
    path = server.settings.get("model_path")
    names = [path, deployment.model if deployment else "", server.model, result.config.model]
    for name in names:
        if isinstance(name, str) and (shape := model_shapes().get(hub_id(name).lower())):
            return shape.id, shape
    return result.config.model or server.model or "the model", None


def _quantised(told: str, shape: ModelShape | None) -> tuple[str, float | None]:
    stored = shape.stored if shape else "BF16"
    if told.lower() in ("", "none", stored.lower()):
        return stored, 1.0
    if told.lower() in _ONE_BYTE and stored == "BF16":
        return "FP8" if "fp8" in told.lower() else "INT8", 0.5
    return told, None


def _kv_bytes(dtype: str) -> float:
    if dtype.startswith("fp4"):
        return 0.5
    return 1.0 if dtype.startswith("fp8") else 2.0


def why_not_on_sparks(result: Result) -> str:
    """Why it is not known to have been served by Sparks; "" where it was.

    The project serves on Sparks, but for the engine that it embeds: that has no image. Without
    a deployment, the server may run on the very machine that the client ran on.
    """
    deployment, machine = result.provenance.deployment, result.provenance.machine
    if deployment:
        embedded = not all(rank.image for rank in deployment.ranks)
        return "the embedded engine serves, not a Spark" if embedded else ""
    host = urlsplit(result.config.url).hostname or ""
    if host not in (*_LOOPBACK, (machine.hostname or "").lower()):
        return "measured by its URL alone, it is not known to be a Spark"
    if _SPARK in (machine.product or "") or machine.cpu == _GB10_CPU:
        return ""
    return "this machine is not a Spark"

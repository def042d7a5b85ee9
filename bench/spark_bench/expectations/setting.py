"""The setting that a result was measured in, as far as expectations depend on it."""

from urllib.parse import urlsplit

from msgspec import Struct

from spark_bench.expectations.roofline import ModelShape, hub_id, model_shapes
from spark_bench.results.schema import Result
from spark_bench.results.schema import SettingValue as Value

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
    server, engine_settings = result.provenance.server, _EngineSettings(result)
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


class _EngineSettings:
    """The engine's own settings, else what the project started it with."""

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
    server, deployment = result.provenance.server, result.provenance.deployment
    path = server.settings.get("model_path")
    names = [path, deployment.model if deployment else "", server.model, result.config.model]
    for name in names:
        if isinstance(name, str) and (shape := model_shapes().get(hub_id(name).lower())):
            return shape.id, shape
    return result.config.model or server.model or "the model", None


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

"""Judge a result's decoding speed by the roofline."""

from spark_bench.expectations.setting import (
    BANDWIDTH,
    Expectation,
    ServedSetting,
    ServedShape,
    Verdict,
    experts_read,
    tokens_per_second,
)
from spark_bench.formats import brief, byte_text, digits
from spark_bench.metrics.figures import Summary

# Published figures for Sparks lie between 60% and 85% of the roofline.
HEALTHY = 0.6
# Without CUDA graphs an engine ran at 45% of its speed with them: 27% to 38% of the roofline. Such
# settings don't explain anything below this; NCCL over TCP does, which is 10 to 20 times slower.
FAR_BELOW = 0.2
# Real texts choose experts less evenly than the estimate for a batch assumes, but not by this much.
FASTER = 1.5
# With more streams, arithmetic and prefills between steps weigh as much as reading: no verdict.
MOST_STREAMS = 16.0

_SOURCE = "memory bandwidth of DGX Spark, 273 GB/s per node; the checkpoint's bytes"
_TRANSPORT = (
    "looks like NCCL over TCP, or a degraded link: `spark-cluster doctor` shows the transport, "
    "`spark-cluster check` the links"
)
_NODE = "looks like a throttled GPU, or swapping: `spark-cluster check` examines the node"
_SLOW = "slower than published figures (60% to 85%): is disable_cuda_graph on?"


def judge_decoding(summary: Summary, setting: ServedSetting) -> Expectation:
    """Judge the decoding speed, or say why there is no verdict."""
    if why := why_no_roofline(summary, setting):
        return Expectation(about="roofline", verdict="unknown", text=f"no roofline: {why}")
    assert setting.shape and setting.tp and setting.weight_scale  # `why_no_roofline` makes sure
    reading = ServedShape(
        shape=setting.shape,
        tp=setting.tp,
        weight_scale=setting.weight_scale,
        kv_bytes=setting.kv_bytes,
    )
    return _Decoding(summary, setting, reading).judged()


def why_no_roofline(summary: Summary, setting: ServedSetting) -> str:
    """Why there is no roofline; "" if there is one."""
    if setting.elsewhere:
        return setting.elsewhere
    if not summary.completed or not summary.mean_itl_ms:
        return "no response has two tokens"
    if setting.engine == "llama.cpp":
        return "it is unknown how many bytes of its GGUF file llama.cpp reads"
    if setting.shape is None:
        return f"the size of {setting.model} is unknown"
    if setting.speculative:
        return f"decoding is speculative ({setting.speculative}): one pass yields several tokens"
    if setting.weight_scale is None:
        return f"the size of {setting.model} as {setting.quantization} is unknown"
    if setting.tp is None:
        return "it is unknown how many nodes the model is split over"
    if setting.nodes and setting.tp > setting.nodes:
        return f"TP {setting.tp} on {setting.nodes} node(s), but a Spark has one GPU"
    return ""


class _Decoding:
    """One stream, or a batch, against what memory bandwidth allows."""

    def __init__(self, summary: Summary, setting: ServedSetting, reading: ServedShape) -> None:
        assert summary.mean_itl_ms
        self.summary, self.setting, self.reading = summary, setting, reading
        # The average context of a stream while it decodes, in tokens.
        tokens = summary.total_input_tokens + summary.total_output_tokens / 2
        self.context = tokens / summary.completed
        self.speed = 1e3 / summary.mean_itl_ms
        self.bound = tokens_per_second(reading, self.context)
        self.streams = max(1.0, summary.concurrency or 1.0)

    def judged(self) -> Expectation:
        if fast := self._too_fast():
            return self._told(
                "impossible",
                self.bound,
                f"{fast}: a measurement error, unless the server reads fewer bytes than the "
                f"checkpoint has ({self._figures()})",
            )
        if self.summary.peak_concurrency <= 1:
            verdict, words = self._verdict(self.speed / self.bound)
            share = f"{self.speed / self.bound:.0%} of the decode roofline"
            return self._told(verdict, self.bound, f"{share}: {words} ({self._figures()})")
        return self._batch()

    def _too_fast(self) -> str:
        """What exceeds the bound: one stream, or all together; "" if neither does."""
        s = self.summary
        if self.speed > self.bound:
            return f"{self.speed / self.bound:.0%} of the decode roofline"
        # A stream's first token comes from its prefill.
        together = (s.total_output_tokens - s.completed) / s.duration if s.duration else 0.0
        if together > (most := self.streams * self.bound):
            return f"{digits(together)} tok/s in total; the roofline allows {digits(most)}"
        return ""

    def _batch(self) -> Expectation:
        bound = f"one stream alone: at most {digits(self.bound)}; {self._setting()}"
        if self.streams > MOST_STREAMS:
            speed = f"{digits(self.speed)} tok/s per stream, {brief(self.streams)} streams"
            return self._told(
                "bound", self.bound, f"{speed}: the batch is too large to judge ({bound})"
            )
        estimate = tokens_per_second(self.reading, self.context, self.streams)
        # The median: prefills in between stretch some steps, not the usual one.
        usual = 1e3 / (self.summary.median_itl_ms or self.summary.mean_itl_ms or 1.0)
        verdict, words = self._verdict(usual / estimate)
        if usual / estimate > FASTER:
            verdict, words = "beside", "faster than estimated; no verdict"
        of = f"{usual / estimate:.0%} of the estimate for {brief(self.streams)} streams"
        each = f"{digits(usual)} of {digits(estimate)} tok/s per stream{self._read()}"
        return self._told(verdict, estimate, f"{of}: {words} ({each}; {bound})", usual)

    def _read(self) -> str:
        shape = self.reading.shape
        if not shape.experts:
            return ""
        return f", {experts_read(shape, self.streams):.0f} of {shape.experts} experts per step"

    def _verdict(self, share: float) -> tuple[Verdict, str]:
        if share >= HEALTHY:
            return "healthy", "healthy"
        if share >= FAR_BELOW:
            return "slow", _SLOW
        several = (self.setting.nodes or 1) > 1
        return "far below", _TRANSPORT if several else _NODE

    def _figures(self) -> str:
        return f"{digits(self.speed)} of {digits(self.bound)} tok/s per stream; {self._setting()}"

    def _setting(self) -> str:
        read = byte_text(BANDWIDTH / self.bound, "GB")
        return (
            f"{self.setting.quantization}, {self.setting.parallelism}: {read} per token "
            f"and node at {byte_text(BANDWIDTH, 'GB')}/s"
        )

    def _told(
        self,
        verdict: Verdict,
        expected: float,
        text: str,
        measured: float | None = None,
    ) -> Expectation:
        return Expectation(
            about="roofline",
            verdict=verdict,
            text=text,
            metric="decode",
            measured=measured or self.speed,
            expected=expected,
            setting=self._setting(),
            source=_SOURCE,
        )

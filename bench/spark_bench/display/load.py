"""What was asked of which server, in words."""

from __future__ import annotations

from spark_bench.display.figures import brief, counted
from spark_bench.results.config import Config
from spark_bench.results.types import Result


def load_line(config: Config, swept: str = "") -> str:
    """The profile as it was run; swept: what differs from point to point, "concurrency", "rate"."""
    repeats = f", {config.repeat} times" if config.repeat > 1 else ""
    arrival = "several rates" if swept == "rate" else _arrival(config)
    slots = "several numbers in flight" if swept == "concurrency" else _slots(config)
    return (
        f"{counted(config.num_prompts, 'prompt')}{repeats}, {_length(config.input_len)} tokens in, "
        f"{_length(config.output_len)} out, {arrival}, {slots}"
    )


def server_line(result: Result) -> str:
    """Where it was run, with what the server told of itself."""
    config, server = result.config, result.provenance.server
    engine = " ".join(filter(None, (server.engine, server.version)))
    return ", ".join(filter(None, (config.url, config.model, config.endpoint, engine)))


def open_loop(config: Config) -> bool:
    """Requests were due by the clock, not when others had ended."""
    return bool(config.request_rate or config.rate_ramp) or _trace(config)


def _trace(config: Config) -> bool:
    return config.dataset is not None and config.dataset.format == "trace"


def _length(tokens: int | None) -> str:
    return "each its own" if tokens is None else f"{tokens:,}"


def _arrival(config: Config) -> str:
    if _trace(config) and config.dataset:
        return f"when {config.dataset.file} says"
    shape = {1.0: "Poisson", None: "even"}.get(config.burstiness, f"gamma {config.burstiness}")
    if ramp := config.rate_ramp:
        return f"{brief(ramp.start)} to {brief(ramp.end)} req/s ({ramp.shape}, {shape})"
    if config.request_rate is None:
        return "closed loop"
    return f"{brief(config.request_rate)} req/s ({shape})"


def _slots(config: Config) -> str:
    return f"{config.concurrency} in flight" if config.concurrency else "no limit in flight"

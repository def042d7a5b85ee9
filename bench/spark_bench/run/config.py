"""The part of a result that says what was asked for."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Literal

from spark_bench.load.ramp import Ramp
from spark_bench.options import RunOptions
from spark_bench.results.config import Config, Conversations, Dataset, RateRamp
from spark_bench.results.secrets import clean_body, clean_command, without_credentials
from spark_bench.run.asking import Agreed
from spark_bench.run.reach import Reached

BLOCK = 1024 * 1024


def config(options: RunOptions, reached: Reached, agreed: Agreed, warmup: int) -> Config:
    """What these options came to with this server.

    warmup: requests sent before the first repeat
    """
    profile = options.profile
    fixed = options.trace is None
    return Config(
        profile=profile.name,
        overrides=options.overrides,
        endpoint=agreed.dialect.name,  # type: ignore[arg-type] # one of its three names
        url=without_credentials(reached.url),
        model=reached.model,
        num_prompts=profile.num_prompts,
        input_len=profile.input_len if fixed and not options.sharegpt else None,
        output_len=profile.output_len if fixed and not options.sharegpt else None,
        request_rate=profile.request_rate if fixed and not options.ramp else None,
        burstiness=None if options.burstiness == float("inf") else options.burstiness,
        rate_ramp=_rate_ramp(options.ramp),
        concurrency=profile.concurrency,
        ramp=options.ramp_slots,
        duration=options.duration,
        seed=options.seed,
        cache="hit" if options.cache == "hit" else "miss",
        warmup=warmup,
        repeat=options.repeat,
        timeout=options.timeout,
        ignore_eos=agreed.asking.ignore_eos,
        temperature=agreed.asking.temperature,
        extra_body=clean_body(agreed.asking.extra),
        count_tokens="usage" if agreed.asking.continuous_usage else options.count_tokens,
        conversations=Conversations(
            turns=options.turns,
            think_time=options.think_time,
            shared_prefix=options.shared_prefix,
            prefix_groups=options.prefix_groups,
        ),
        dataset=_dataset(options),
        slo=options.slo.limits_ms if options.slo else {},
        command=clean_command(["spark-bench", *sys.argv[1:]]),
    )


def _rate_ramp(ramp: Ramp | None) -> RateRamp | None:
    return RateRamp(start=ramp.start, end=ramp.end, shape=ramp.shape) if ramp else None


def _dataset(options: RunOptions) -> Dataset | None:
    if options.trace:
        return _file("trace", options.trace, options.trace_speed)
    return _file("sharegpt", options.sharegpt) if options.sharegpt else None


def _file(kind: Literal["trace", "sharegpt"], path: Path, speed: float = 1.0) -> Dataset:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return Dataset(format=kind, file=path.name, sha256=digest.hexdigest(), speed=speed)

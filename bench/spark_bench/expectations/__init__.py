"""What a result could be: the decode roofline, and what others have published for its setting.

The sizes of models are in models.toml, published figures in published.toml. Nothing but a result
is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from spark_bench.expectations.setting import Expectation

if TYPE_CHECKING:
    from spark_bench.results.schema import Result

__all__ = ["Expectation", "expectation_lines", "judge_result"]


def judge_result(result: Result) -> tuple[Expectation, ...]:
    """Judge a result: the roofline first, then published figures, or why there are none."""
    from spark_bench.expectations.decode import judge_decoding
    from spark_bench.expectations.published import compare_published
    from spark_bench.expectations.setting import setting_of

    setting = setting_of(result)
    roofline = judge_decoding(result.summary, setting)
    if result.config.published:
        from spark_bench.expectations.as_published import compare_load

        return (roofline, *compare_load(result, result.config.published, setting))
    if result.config.depth_cached is True:
        return (roofline,)
    lengths = None
    if isinstance(result.config.depth, int) and result.config.input_len:
        lengths = result.config.depth + result.config.input_len, result.config.output_len
    return (roofline, *compare_published(result.summary, setting, lengths))


def expectation_lines(result: Result) -> Iterator[tuple[str, str]]:
    """Yield (subject, sentence) for a table; figures of one source share a sentence."""
    from spark_bench.expectations.published import published_sentences

    roofline, *published = judge_result(result)
    yield "roofline", roofline.text
    yield from (("published", sentence) for sentence in published_sentences(published))

"""What a result could be: the decode roofline, and what others have published for its setting.

The bytes of models are in models.toml, published figures in published.toml. Nothing is asked of
anybody: a result file is enough, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from spark_bench.expectations.expectation import Expectation

if TYPE_CHECKING:
    from spark_bench.results.types import Result

__all__ = ["Expectation", "expectation_lines", "judge"]


def judge(result: Result) -> tuple[Expectation, ...]:
    """The roofline first, then published figures; where nothing is known, that is said."""
    from spark_bench.expectations.decode import decoding
    from spark_bench.expectations.published import beside
    from spark_bench.expectations.setting import setting_of

    setting = setting_of(result)
    return (decoding(result.summary, setting), *beside(result.summary, setting))


def expectation_lines(result: Result) -> Iterator[tuple[str, str]]:
    """(what it is about, the sentence), for a table; the figures of a source in one."""
    from spark_bench.expectations.published import sentences

    roofline, *published = judge(result)
    yield "roofline", roofline.text
    yield from (("published", sentence) for sentence in sentences(published))

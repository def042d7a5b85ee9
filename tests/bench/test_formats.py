"""How values are written for people: the examples in docstrings, which are the specification."""

import doctest

from spark_bench import formats


def test_examples_in_docstrings_hold() -> None:
    results = doctest.testmod(formats)
    assert results.attempted >= 8
    assert not results.failed

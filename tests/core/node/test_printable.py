"""What came from outside, as it may be shown: one function in each package, held to one test."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import ModuleType

import pytest
import spark_bench.printable
import spark_cluster.printable
from hypothesis import given, strategies as st
from printable_words import HOSTILE, WORDS

import cluster.printable
from cluster.printable import colored, json_text

# Half of them begin, end or fill a terminal's sequences.
CHARACTERS = (
    st.sampled_from("\x1b[]PX^_\x90\x9b\x9c\x9d0;m\x07\\\n\t \u3164\u200b") | st.characters()
)
PACKAGES = (cluster.printable, spark_bench.printable, spark_cluster.printable)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
@pytest.mark.parametrize(("word", "shown"), WORDS)
def test_a_name_cannot_control_the_terminal(package: ModuleType, word: str, shown: str) -> None:
    assert package.printable(word) == shown
    assert package.printable(word).isprintable()


@given(st.text(CHARACTERS), st.booleans())
def test_all_packages_print_text_alike(text: str, lines: bool) -> None:
    assert len({package.printable(text, lines=lines) for package in PACKAGES}) == 1


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_lines_stay_lines_where_they_are_wanted(package: ModuleType) -> None:
    assert package.printable("a\nb\tc\x1b[2J", lines=True) == "a\nb c"


@pytest.mark.parametrize(
    "piece",
    ["\x1b[", "\x1b]", "\x9d", "\x1bP", "\x1b[0", "\x1b[ ", "\x1b]\x9d", "\x90\x1b", "\x9b;"],
)
def test_a_long_word_costs_no_more_than_its_length(piece: str) -> None:
    begun = time.process_time()
    cluster.printable.printable(piece * 50_000)
    assert time.process_time() - begun < 2


def test_our_own_colors_stay() -> None:
    assert colored("\x1b[31mred\x1b[0m \x1b[2J\x1b]0;x\x07\n\x1b[8mhid") == (
        "\x1b[31mred\x1b[0m \nhid"
    )


@pytest.mark.parametrize("encoded", [json_text, spark_bench.printable.json_text])
def test_a_json_document_is_the_same_data(encoded: Callable[[bytes], str]) -> None:
    document = {HOSTILE: [HOSTILE, "ü"]}
    text = encoded(json.dumps(document, ensure_ascii=False, indent=1).encode())
    assert json.loads(text) == document
    assert all(line.isprintable() for line in text.split("\n"))

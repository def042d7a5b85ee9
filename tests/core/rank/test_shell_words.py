"""A command is words; a string is none, though Python can iterate over it."""

from __future__ import annotations

import pytest

from operations.shell import command


def test_every_word_is_quoted() -> None:
    assert command(("echo", "it's", "$HOME")).get_raw_value() == """echo 'it'"'"'s' '$HOME'"""


def test_a_string_is_refused() -> None:
    with pytest.raises(TypeError, match="not the string 'docker ps'"):
        command("docker ps")

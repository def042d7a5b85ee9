"""A command is rendered in one place: quoted, bounded, its stdin never shown."""

from __future__ import annotations

import pytest

from cluster.command import Command
from facts.fact import quote, render


def test_every_word_is_quoted_under_the_time_limit() -> None:
    command = Command(("echo", "it's", "$HOME"), 7)
    assert render(command).get_raw_value() == (
        """timeout --kill-after=5 7 echo 'it'"'"'s' '$HOME'"""
    )


def test_a_node_without_timeout_gets_the_bare_command() -> None:
    assert render(Command(("echo", "a b"), 7, kill=False)).get_raw_value() == "echo 'a b'"


def test_stdin_is_never_shown() -> None:
    assert "sesame" not in repr(Command(("cat",), 7, "sesame"))


def test_a_string_is_refused() -> None:
    with pytest.raises(TypeError, match="not the string 'docker ps'"):
        quote("docker ps")  # type: ignore[arg-type]

"""What is shown of a failed rank's log, with lines as real ranks left them."""

from __future__ import annotations

import pytest

from cluster.engine.log import clean, last_words

SAID = "[2026-11-23 11:54:15] SIGQUIT received. signum=None, frame=None. It usually means one child"


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param("nanobind: leaked 64 types!", id="count"),
        pytest.param(' - leaked type "triton._C.libtriton.ir.location"', id="type"),
        pytest.param(
            ' - leaked instance 0x7f0a24736a68 of type "triton._C.libtriton.ir.attribute"',
            id="instance",
        ),
        pytest.param(" - ... skipped remainder", id="remainder"),
        pytest.param("See https://nanobind.readthedocs.io/en/latest/refleaks.html", id="link"),
        pytest.param("", id="empty"),
    ],
)
def test_what_bindings_say_at_every_end_is_left_out(noise: str) -> None:
    assert last_words([SAID, *[noise] * 30], 12) == (SAID,)


def test_the_line_of_all_arguments_does_not_drown_the_rest() -> None:
    shown = last_words([f"server_args={{{'x' * 30_000}}}", SAID], 12)
    assert [len(line) for line in shown] == [300, len(SAID)]


def test_only_so_many() -> None:
    assert last_words(["a", "b", "c"], 2) == ("b", "c")


def test_a_progress_bar_shows_its_last_state() -> None:
    assert last_words(["0%\r50%\r100%"], 12) == ("100%",)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        pytest.param("\x1b[31mred\x1b[0m", "red", id="colors"),
        pytest.param("a\x1b[\x1b[0m2Jb", "a2Jb", id="one-inside-another"),
        pytest.param("a\x1b[2J\x1b[1;1Hb", "ab", id="the-screen-cleared"),
        pytest.param("a\x1bcb", "ab", id="reset"),
        pytest.param("a\x1b(0b\x1b(B", "ab", id="another-set-of-signs"),
        pytest.param("a\x1b]0;title\x07b", "ab", id="title"),
        pytest.param("a\x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\", "ab", id="link"),
        pytest.param("a\x1b]0;title without an end", "a", id="title-without-an-end"),
        pytest.param("a\x1bP1$r0m\x1b\\b", "ab", id="device-control"),
        pytest.param("a\x1b_message\x1b\\b\x1b^private\x1b\\c", "abc", id="messages"),
        pytest.param("a\x9b31mb\x9d0;title\x9cc\x85d", "abcd", id="c1"),
        pytest.param("a\x07\x08\x00b\x7f", "ab", id="c0"),
        pytest.param("a\x1b", "a", id="cut-off"),
        pytest.param("a\x1b[", "a", id="cut-off-later"),
        pytest.param("1%\r\x1b[K2%\r\n", "2%", id="progress-bar"),
        pytest.param("a\tb", "a b", id="tab"),
        pytest.param("\u202eevil", "?evil", id="bidirectional"),
    ],
)
def test_nothing_that_controls_a_terminal_is_left(line: str, shown: str) -> None:
    assert clean(line) == shown


def test_of_a_very_long_line_the_ends_are_kept() -> None:
    shown = clean(f"begin {'x' * 1_000_000} end")
    assert len(shown) < 5_000
    assert shown.startswith("begin x")
    assert shown.endswith("x end")

"""What is shown of a failed rank's log, with lines as real ranks left them."""

from __future__ import annotations

import pytest

from cluster.engine_log import last_words

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

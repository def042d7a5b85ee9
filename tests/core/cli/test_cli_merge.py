"""Logs of several nodes: one order, whoever's line came first."""

from __future__ import annotations

import pytest
from spark_cluster.feeds import NS, LogLine, LogMerge, clock_skew, split_stamp
from spark_cluster.logs import choose_ranks, plain
from spark_cluster.status_view import age


@pytest.mark.parametrize(
    ("line", "at", "text"),
    [
        pytest.param("1970-01-01T00:00:02.000000005Z hello", 2 * NS + 5, "hello", id="nanoseconds"),
        pytest.param("1970-01-01T00:00:02.5Z hello", 2 * NS + NS // 2, "hello", id="a-digit"),
        pytest.param("1970-01-01T00:00:02Z ", 2 * NS, "", id="an-empty-line"),
        pytest.param("Error: No such container: x", None, "Error: No such container: x", id="none"),
    ],
)
def test_docker_stamps_each_line(line, at, text):
    assert split_stamp(line) == (at, text)


def test_lines_come_in_order_once_they_have_waited():
    merge = LogMerge(hold=1.0)
    merge.add(LogLine(30, 0, 1, "third", arrived=0.0))
    assert list(merge.due(0.9)) == []
    merge.add(LogLine(10, 1, 1, "first", arrived=0.5))
    merge.add(LogLine(20, 1, 2, "second", arrived=0.5))
    assert [line.text for line in merge.due(1.0)] == []
    assert [line.text for line in merge.due(1.5)] == ["first", "second", "third"]


def test_lines_of_one_moment_keep_their_order():
    merge = LogMerge(0)
    for serial, text in enumerate("abc"):
        merge.add(LogLine(7, 0, serial, text))
    assert [line.text for line in merge.rest()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("ahead", "reported"),
    [
        pytest.param(0.4, 0, id="the-way-to-it"),
        pytest.param(5, 5 * NS, id="ahead"),
        pytest.param(-5, -5 * NS, id="behind"),
    ],
)
def test_a_wrong_clock_is_corrected(ahead, reported):
    assert clock_skew(int((100 + ahead) * NS), 100 * NS) == reported


def test_log_lines_cannot_control_the_terminal():
    assert plain("\x1b[31mred\x1b[0m \x1b]0;title\x07\x08x\n") == "red x"
    assert plain("10%\r 50%\r100%") == "100%"


def test_ranks_are_chosen_by_number_or_by_node():
    nodes = [{"name": n, "rank": r} for n, r in (("a", "head"), ("b", "worker"), ("idle", ""))]
    assert list(choose_ranks(nodes, ())) == [0, 1]
    assert list(choose_ranks(nodes, ("b", "0"))) == [1, 0]
    with pytest.raises(Exception, match="'idle' is not a rank; choose from: 0 \\(a\\), 1 \\(b\\)"):
        choose_ranks(nodes, ("idle",))


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        pytest.param(None, "-", id="none"),
        pytest.param(0.4, "0 s", id="just-now"),
        pytest.param(3725, "1 h 2 min", id="hours"),
        pytest.param(86400 * 3 + 5, "3 d 5 s", id="days"),
    ],
)
def test_an_age_is_shown_in_two_units(seconds, says):
    assert age(seconds) == says

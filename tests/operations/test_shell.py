"""What a command on a node returns, whatever happens to its connection; and progress reports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from fake_host import FakeHost, framed
from pyinfra.api.exceptions import FactProcessError

from cluster.command import Command
from cluster.findings import Refused
from facts.fact import Fact
from operations import shell
from operations.shell import CURE, ERRORS, MARK, Reading

START = Command(("docker", "start"), 5)


class Number(Fact[int]):
    """A fact with one line of output, a number."""

    default = staticmethod(int)

    def command(self) -> str:
        return "echo 1"

    def process(self, output: object) -> int:
        (line,) = output  # type: ignore[misc]
        if not line.isdigit():
            raise FactProcessError(f"no number: {line}")
        return int(line)


def read_number(*lines: str, status: int = 0, failed: bool = False) -> Reading[int]:
    host: Any = FakeHost("spark-1", lambda script, stdin: framed(*lines, status=status))
    return shell.read_fact(host, Number(), "echo 1", 5, failed=failed)


# ---- commands


@pytest.mark.parametrize(
    ("active", "answer", "lost", "out"),
    [
        pytest.param(True, framed("0af9", status=1), "", ("0af9",), id="the-command-failed"),
        pytest.param(False, framed("0af9"), "", ("0af9",), id="ended-after-it"),
        pytest.param(False, [f"{MARK}0af9"], "the connection broke off", (), id="ended-under-it"),
        pytest.param(True, [f"{MARK}0af9"], "its output was cut off", (), id="only-a-part-came"),
        pytest.param(None, [], "its shell ended without", (), id="nothing-came"),
    ],
)
def test_a_lost_connection_is_not_a_failed_command(
    active: bool | None, answer: list[str], lost: str, out: tuple[str, ...]
) -> None:
    host: Any = FakeHost("spark-1", lambda script, stdin: answer, active=active)
    output = shell.run_command(host, START)
    assert (output.ok, output.out) == (answer == framed("0af9"), out)
    assert output.lost.startswith(lost) and bool(output.lost) == bool(lost)
    assert host.connected is not (lost == "the connection broke off")


def test_a_lost_connection_is_made_again_for_the_next_command() -> None:
    errors = [OSError("reset by peer")]

    def reply(script: str, stdin: str) -> list[str]:
        if errors:
            raise errors.pop()
        return framed("ok")

    host: Any = FakeHost("spark-1", reply)
    first = shell.run_command(host, START)
    assert (first.ok, first.lost, host.connected) == (False, "OSError: reset by peer", False)
    assert shell.run_command(host, START).ok
    assert host.connected


def test_a_command_gets_the_inventorys_sudo_settings() -> None:
    host: Any = FakeHost("spark-1", data=SimpleNamespace(_sudo=True, _sudo_user="me"))
    shell.run_command(host, Command(("id",), 5, "sesame"))
    assert host.arguments["_sudo"] is True
    assert host.arguments["_sudo_user"] == "me"
    assert host.arguments["_stdin"] == "sesame"
    assert not {"name", "_if"} & set(host.arguments), "what is an operation's alone"


def test_a_command_without_stdin_gets_none() -> None:
    host: Any = FakeHost("spark-1")
    shell.run_command(host, START)
    assert host.arguments["_stdin"] is None


def test_errors_before_the_command_are_not_its_own() -> None:
    output = shell.parse_output(framed("a"), ["banner", ERRORS, "oops"])
    assert (output.out, output.err) == (("a",), ("oops",))
    assert shell.parse_output(framed("a"), ["oops"]).err == ("oops",)


def test_noise_is_what_the_shell_printed_not_the_frame() -> None:
    assert shell.parse_output(["Welcome", *framed("a")], [ERRORS]).noise == "Welcome"
    assert shell.parse_output([ERRORS, *framed("a")], []).noise == ""
    assert shell.parse_output(framed("a"), [ERRORS]).noise == ""


# ---- readings


def test_a_fact_reads_what_its_command_prints() -> None:
    assert read_number("7") == Reading(7)


def test_a_fact_has_its_default_where_nothing_is_printed() -> None:
    assert read_number() == Reading(0)


def test_a_failed_command_is_not_read_unless_requested() -> None:
    assert read_number("7", status=1) == Reading(why="7")
    assert read_number("7", status=1, failed=True) == Reading(7)
    assert read_number(status=1).why == "its command failed without a message"


def test_an_unreadable_fact_says_why_it_has_no_value() -> None:
    assert read_number("x") == Reading(why="no number: x")


def test_readings_become_values_where_every_node_answered() -> None:
    readings = {"spark-1": Reading(1), "spark-2": Reading(2)}
    assert shell.values_for_operations(readings, "its number") == {"spark-1": 1, "spark-2": 2}


def test_a_node_that_could_not_be_read_refuses_the_operations() -> None:
    readings = {"spark-1": Reading(1), "spark-2": Reading[int](why="timeout")}
    with pytest.raises(Refused) as refused:
        shell.values_for_operations(readings, "its number")
    (finding,) = refused.value.findings
    assert (finding.where, finding.what) == ("spark-2", "its number could not be read: timeout")


def test_operations_refuse_a_shell_that_prints() -> None:
    """pyinfra's own operations and SFTP would take that output for their answers."""
    readings = {"spark-1": Reading(1, noise="Welcome"), "spark-2": Reading(2)}
    with pytest.raises(Refused) as refused:
        shell.values_for_operations(readings, "its number")
    (finding,) = refused.value.findings
    assert (finding.where, finding.cure) == ("spark-1", CURE)
    assert "Welcome" in finding.what


# ---- progress lines


@pytest.mark.parametrize(
    "error", [pytest.param(None, id="it ends"), pytest.param(OSError(), id="it fails")]
)
def test_progress_is_reported_until_the_block_ends(
    monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    monkeypatch.setattr(shell, "REPORT_SECONDS", 0.02)
    reports: list[float] = []
    try:
        with shell.report_every(reports.append):
            with gevent.Timeout(10):
                while len(reports) < 3:
                    gevent.sleep(0.005)
            if error:
                raise error
    except OSError as e:
        assert e is error
    at_the_end = list(reports)
    gevent.sleep(0.1)
    assert reports == at_the_end == sorted(reports)
    assert reports[0] >= 0.02

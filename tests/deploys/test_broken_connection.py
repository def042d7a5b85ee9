"""A connection that ends under a command is told as that, not as the command's failure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.command import Command
from operations import shell
from operations.shell import END, MARK


def node(*, active: bool, ok: bool, out: list[str]) -> Any:
    """A fake host whose command ends so, over a connection that then is active or not."""
    transport = SimpleNamespace(is_active=lambda: active)
    client = SimpleNamespace(get_transport=lambda: transport)
    output = SimpleNamespace(stdout_lines=out, stderr_lines=[])
    return SimpleNamespace(
        connected=True,
        connector=SimpleNamespace(client=client),
        state=SimpleNamespace(print_output=False, print_input=False),
        run_shell_command=lambda *_, **__: (ok, output),
    )


@pytest.mark.parametrize(
    ("active", "ok", "end", "lost", "out"),
    [
        pytest.param(True, False, [f"{MARK}{END}1"], "", ("0af9",), id="the-command-failed"),
        pytest.param(False, True, [f"{MARK}{END}0"], "", ("0af9",), id="ended-after-it"),
        pytest.param(False, False, [], "the connection broke off", (), id="ended-under-it"),
        pytest.param(True, True, [], "its output was cut off", (), id="only-a-part-came"),
    ],
)
def test_a_connection_that_ended_under_a_command(
    monkeypatch: pytest.MonkeyPatch,
    active: bool,
    ok: bool,
    end: list[str],
    lost: str,
    out: tuple[str, ...],
) -> None:
    monkeypatch.setattr(shell, "pop_global_arguments", lambda *_: ({}, []))
    host = node(active=active, ok=ok, out=[f"{MARK}0af9", *end])
    answer = shell.run_command(host, Command(("docker", "start"), 5))
    assert (answer.ok, answer.out) == (ok and bool(end), out)
    assert answer.lost.startswith(lost) and bool(answer.lost) == bool(lost)
    assert host.connected is not (lost == "the connection broke off")

"""A connection that ends under a command is told as that, not as the command's failure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from operations import shell


def node(*, active: bool, ok: bool) -> Any:
    """A fake host whose command ends so, over a connection that then is active or not."""
    transport = SimpleNamespace(is_active=lambda: active)
    client = SimpleNamespace(get_transport=lambda: transport)
    output = SimpleNamespace(stdout_lines=["0af9"], stderr_lines=[])
    return SimpleNamespace(
        connected=True,
        connector=SimpleNamespace(client=client),
        state=SimpleNamespace(print_output=False, print_input=False),
        run_shell_command=lambda *_, **__: (ok, output),
    )


@pytest.mark.parametrize(
    ("active", "ok", "lost", "out"),
    [
        pytest.param(True, False, "", ("0af9",), id="the-command-failed"),
        pytest.param(False, True, "", ("0af9",), id="ended-after-it"),
        pytest.param(False, False, "the connection broke off", (), id="ended-under-it"),
    ],
)
def test_a_connection_that_ended_under_a_command(
    monkeypatch: pytest.MonkeyPatch, active: bool, ok: bool, lost: str, out: tuple[str, ...]
) -> None:
    monkeypatch.setattr(shell, "_connector_arguments", lambda _: {})
    host = node(active=active, ok=ok)
    answer = shell.ask(host, ["docker", "start"], 5)
    assert (answer.ok, answer.out) == (ok, out)
    assert answer.lost.startswith(lost) and bool(answer.lost) == bool(lost)
    assert host.connected is not bool(lost)

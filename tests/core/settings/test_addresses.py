"""The address of a host, as others reach it: never that of a jump host on the way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paramiko import Channel, ProxyCommand

from control import inventory


def host(sock: Any, peer: tuple[Any, ...], tmp_path: Path, **data: str) -> Any:
    """A host of an inventory, connected through this."""
    file = tmp_path / "config"
    file.write_text("Host behind\n  HostName 10.0.0.5\n  ProxyJump gate\n")
    transport = SimpleNamespace(sock=sock, getpeername=lambda: peer)
    client = SimpleNamespace(get_transport=lambda: transport)
    data = {"ssh_config_file": str(file), **data}
    return SimpleNamespace(name="behind", data=data, connector=SimpleNamespace(client=client))


@pytest.mark.parametrize(
    ("sock", "peer"),
    [
        pytest.param(Channel(1), ("198.51.100.1", 22), id="ProxyJump: the peer is the jump host"),
        pytest.param(object.__new__(ProxyCommand), ("unknown", 0), id="ProxyCommand: no peer"),
    ],
)
def test_behind_a_jump_host_the_configured_address_counts(
    tmp_path: Path, sock: Any, peer: tuple[str, int]
) -> None:
    behind = host(sock, peer, tmp_path)
    assert inventory.jumps(behind) and inventory.address(behind) == "10.0.0.5"
    named = host(sock, peer, tmp_path, ssh_hostname="10.0.0.6")
    assert inventory.address(named) == "10.0.0.6"

"""Commands that mend a node's fabric; netplan keeps those by hand over a reboot, in 40-cx7.yaml."""

from __future__ import annotations

from cluster.node import RdmaPort

SUBNETS = {"A": "192.168.100", "B": "192.168.101"}
"""The vendor's playbook gives each half of the cabled port one of these /24 subnets."""

BOTH = "pyinfra -y INVENTORY deploys/network.py"
"""Addresses and MTU for both halves of the cabled port, on all nodes at once."""


def example(port: RdmaPort, rank: int) -> str:
    """An address for one half on the node of this rank: .10 for the head, .11 for the next."""
    return f"{SUBNETS.get(port.half, SUBNETS['A'])}.{10 + rank}/24"


def give_address(port: RdmaPort, rank: int) -> str:
    settings = f"{{addresses: [{example(port, rank)}], link-local: [], mtu: 9000}}"
    by_hand = f"{netplan(port.netdev, settings)} (each half its own subnet, the same on all nodes)"
    return f"{BOTH}, or by hand {by_hand}"


def netplan(netdev: str, settings: str) -> str:
    wanted = f"'ethernets.{netdev}={settings}'"
    return f"sudo netplan set --origin-hint 40-cx7 {wanted} && sudo netplan apply"


def set_mtu(netdev: str, mtu: int) -> str:
    now = f"sudo ip link set dev {netdev} mtu {mtu}"
    keep = f"sudo netplan set --origin-hint 40-cx7 ethernets.{netdev}.mtu={mtu}"
    return f"{now}; to keep it: {keep}"


def bring_up(port: RdmaPort) -> str:
    return f"sudo ip link set dev {port.netdev} up; see `ibdev2netdev` and `rdma link`"

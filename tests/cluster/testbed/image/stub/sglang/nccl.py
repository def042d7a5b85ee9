"""NCCL's choice of a transport, and the lines that tell it under NCCL_DEBUG=INFO."""

import os
import socket
from pathlib import Path

from sglang.logs import scheduler

HCAS = Path("/sys/class/infiniband")
DEVICES = Path("/dev/infiniband")


def announce(rank, ranks, address):
    """Log the transport as NCCL does, for several ranks."""
    version = os.environ.get("STUB_NCCL", "2.29.7")
    if rank == 0:
        scheduler(rank, f"sglang is using nccl=={version}")
    if os.environ.get("NCCL_DEBUG", "").upper() not in ("INFO", "TRACE"):
        return
    for line in (f"NCCL version {version}+cuda13.0", *lines(rank, ranks, address)):
        print(f"{socket.gethostname()}:1:1 [0] NCCL INFO {line}", flush=True)


def lines(rank, ranks, address):
    oob = f"{os.environ.get('NCCL_SOCKET_IFNAME', 'eth0')}:{address}<0>"
    yield f"Bootstrap: Using {oob}"
    hcas = usable()
    if hcas:
        listed = " ".join(f"[{i}]{hca}:1/RoCE" for i, hca in enumerate(hcas))
        yield f"NET/IB : Using {listed} [RO]; OOB {oob}"
        yield "Using network IB"
    else:
        yield "NET/IB : No device found."
        yield f"NET/Socket : Using [0]{oob}"
        yield "Using network Socket"
    kind = "IB" if hcas else "Socket"
    peer = (rank + 1) % ranks
    yield f"Channel 00/0 : {rank}[0] -> {peer}[0] [send] via NET/{kind}/0"
    yield "Connected all rings, use ring PXN 0 GDR 0"
    yield f"ncclCommInitRank comm 0x0 rank {rank} nranks {ranks} cudaDev 0 - Init COMPLETE"


def usable():
    """HCAs that NCCL would open: wanted by NCCL_IB_HCA, active, and with their device there."""
    if os.environ.get("NCCL_IB_DISABLE") == "1" or not DEVICES.is_dir():
        return []
    present = sorted(path.name for path in HCAS.glob("*"))
    return [hca for hca in present if wanted(hca) and active(hca)]


def wanted(hca):
    """NCCL_IB_HCA: a list of prefixes, or of whole names after "="; all but those after "^"."""
    listed = os.environ.get("NCCL_IB_HCA", "")
    if not listed:
        return True
    names = [name.split(":")[0] for name in listed.lstrip("^=").split(",") if name]
    exact = listed.lstrip("^").startswith("=")
    matches = any(hca == name if exact else hca.startswith(name) for name in names)
    return matches is not listed.startswith("^")


def active(hca):
    try:
        return "ACTIVE" in (HCAS / hca / "ports/1/state").read_text()
    except OSError:
        return False

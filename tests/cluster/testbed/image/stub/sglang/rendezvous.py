"""How the ranks meet, over the connections that the real one needs, and notice each other's end.

Rank 0 listens on the port of --dist-init-addr (torch's store). Each other rank connects to it and
tells a random port of its own (gloo's), which rank 0 connects to: this connection, `Peers`, carries
every step of serving. Rank 0 also listens on a random port of SGLANG_HOST_IP (SGLang's broadcast
queue) that the others must reach. All of that needs every TCP port between the ranks open.
"""

import fcntl
import json
import os
import socket
import struct
import threading
import time

from sglang import OLD, nccl
from sglang.ending import scheduler_died
from sglang.logs import scheduler

# torch 2.13's words, seen with 0.5.23
RESET = (
    "RuntimeError: [/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read "
    "error [169.254.2.1]:12503: Connection reset by peer. This is typically caused by a remote "
    "worker hanging or bugs in the application. Check the logs of the remote worker before "
    "reporting an error."
)


class Peers:
    """Connections to the other ranks: of rank 0 to all, of another rank to rank 0."""

    def __init__(self, rank, connections):
        self.rank = rank
        self.connections = connections
        self.lock = threading.Lock()
        self.ending = False

    def follow(self):
        """A rank > 0: answer each step of rank 0 until it is gone, then end as the real one."""
        (rank0,) = self.connections
        rank0.settimeout(None)
        while self._answer(rank0):
            pass
        scheduler_died(self.rank, RESET)

    def _answer(self, rank0):
        try:
            step = rank0.recv(64)
            rank0.sendall(step)
        except OSError:
            return False
        return bool(step)

    def step(self, limit=float("inf")):
        """Rank 0: one step of all ranks; False where they don't answer in `limit` seconds.

        A link that is down stops the steps and heals; a rank that is gone ends this one too.
        """
        deadline = time.monotonic() + limit
        while not self._try():
            if time.monotonic() > deadline:
                return False
        return True

    def _try(self):
        with self.lock:
            answered = [self._ask(peer) for peer in self.connections]
            return all(answered)

    def _ask(self, peer):
        try:
            drain(peer)
            peer.settimeout(1)
            peer.sendall(b"s")
            answer = peer.recv(64)
        except TimeoutError:
            return False
        except OSError:
            answer = b""
        if not answer and not self.ending:
            scheduler_died(self.rank, RESET)
        return True

    def watch(self):
        """Rank 0: keep stepping, as the scheduler's loop does, and so notice a rank's end."""
        while True:
            time.sleep(0.2)
            self._try()


def drain(peer):
    """Forget answers that came after their time."""
    peer.setblocking(False)
    try:
        if not peer.recv(4096):
            raise ConnectionResetError
    except BlockingIOError:
        pass


def meet(args):
    """Wait until all ranks are there. A single node has nobody to wait for."""
    if args.nnodes == 1:
        return Peers(0, [])
    host, port = args.dist_init_addr.rsplit(":", 1)
    limit = args.dist_timeout or 600
    gather = lead if args.node_rank == 0 else join
    peers, frozen = gather(args, host, int(port), limit)
    nccl.announce(args.node_rank, args.nnodes, own_address(host))
    if OLD:
        reason = "because this process group spans across nodes."
        scheduler(args.node_rank, f"Custom allreduce is disabled {reason}")
    custom = "Setup Custom allreduce failed with . To silence this warning, specify"
    scheduler(args.node_rank, f"{custom} --disable-custom-all-reduce explicitly.")
    if frozen:
        freeze(args.node_rank)
    return peers


def lead(args, host, port, limit):
    store, queue = listen(port), listen_queue()
    deadline = time.monotonic() + limit
    joined = []
    while len(joined) < args.nnodes - 1:
        store.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            connection, _ = store.accept()
            joined.append((connection, json.loads(connection.makefile().readline())))
        except TimeoutError:
            here = f"{len(joined) + 1}/{args.nnodes} clients joined."
            words = f"Timed out after {int(limit) + 1} seconds waiting for clients. {here}"
            scheduler_died(0, f"torch.distributed.DistStoreError: {words}")
    frozen = queue is None or any(not hello["host_ip"] for _, hello in joined)
    for connection, _ in joined:
        connection.sendall(json.dumps({"queue": queue, "frozen": frozen}).encode() + b"\n")
    connections = [connect_gloo(hello["gloo"], deadline) for _, hello in joined]
    for connection in connections if not frozen else []:
        connection.settimeout(None)
        connection.recv(1)  # it has reached the queue
    return Peers(0, connections), frozen


def join(args, host, port, limit):
    deadline = time.monotonic() + limit
    try:
        store = reach(host, port, deadline)
    except OSError:
        words = f"The client socket has timed out after {int(limit) * 1000}ms while trying to"
        cause = f"torch.distributed.DistNetworkError: {words} connect to ({host}, {port})."
        scheduler_died(args.node_rank, cause)
    gloo = socket.create_server((own_address(host), 0))
    hello = {"gloo": gloo.getsockname(), "host_ip": os.environ.get("SGLANG_HOST_IP", "")}
    store.sendall(json.dumps(hello).encode() + b"\n")
    answer = json.loads(store.makefile().readline() or scheduler_died(args.node_rank, RESET))
    rank0 = accept_gloo(args.node_rank, gloo, limit)
    if not answer["frozen"]:
        reach(*answer["queue"], deadline=float("inf"))
        rank0.sendall(b"r")
    return Peers(args.node_rank, [rank0]), answer["frozen"]


def listen(port):
    try:
        return socket.create_server(("", port))
    except OSError:
        scheduler_died(
            0,
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any "
            f"local network address. port: {port}, useIpv6: false, code: -98, name: EADDRINUSE, "
            "message: address already in use",
        )


def listen_queue():
    """Address of the broadcast queue, None without SGLANG_HOST_IP: the wrong one is advertised."""
    if not (address := os.environ.get("SGLANG_HOST_IP")):
        return None
    try:
        listen_queue.socket = socket.create_server((address, 0))  # kept open
    except OSError as problem:
        cause = f"zmq.error.ZMQError: {problem.strerror} (addr='tcp://{address}:0')"
        scheduler_died(0, cause)
    return listen_queue.socket.getsockname()


def accept_gloo(rank, gloo, limit):
    gloo.settimeout(limit)
    try:
        return gloo.accept()[0]
    except TimeoutError:
        scheduler_died(rank, "RuntimeError: Gloo connectFullMesh failed with [timed out]")


def connect_gloo(address, deadline):
    try:
        return reach(*address, deadline)
    except OSError:
        where = ":".join(map(str, address))
        scheduler_died(0, f"RuntimeError: Gloo connectFullMesh failed with [{where}] timed out")


def reach(host, port, deadline):
    """Connect, trying again until the deadline (of time.monotonic)."""
    while True:
        try:
            return socket.create_connection((host, port), timeout=2)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def freeze(rank):
    """What two nodes do without SGLANG_HOST_IP: wait for ever for an unreachable address."""
    scheduler(rank, "Can not get local ip by remote")
    threading.Event().wait()


def own_address(towards):
    """GLOO_SOCKET_IFNAME's IPv4 address, else the one that leads to `towards`."""
    if interface := os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            siocgifaddr = 0x8915
            packed = fcntl.ioctl(probe, siocgifaddr, struct.pack("256s", interface.encode()))
        return socket.inet_ntoa(packed[20:24])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, 9))
        return probe.getsockname()[0]

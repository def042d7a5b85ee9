"""A stand-in for sglang.launch_server: the same flags, the same rendezvous, the same HTTP surface.

rank 0 listens on --dist-init-addr and serves HTTP once all ranks have joined; the others connect to
it, wait, and die with it (as torch.distributed does).  No model, no GPU.
"""

import argparse
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # a quick `docker stop`

ap = argparse.ArgumentParser()
ap.add_argument("--model-path", required=True)
ap.add_argument("--served-model-name")
ap.add_argument("--host", default="127.0.0.1")
ap.add_argument("--port", type=int, default=30000)
ap.add_argument("--tp-size", "--tp", type=int, default=1)
ap.add_argument("--nnodes", type=int, default=1)
ap.add_argument("--node-rank", type=int, default=0)
ap.add_argument("--dist-init-addr")
ap.add_argument("--dist-timeout", type=float, default=60)
ap.add_argument("--trust-remote-code", action="store_true")
args, extra = ap.parse_known_args()
log = lambda m: print(f"[{time.strftime('%H:%M:%S')} rank{args.node_rank}] {m}", flush=True)
log(f"server_args={vars(args)} extra={extra}")
log(
    "env "
    + json.dumps(
        {
            k: v
            for k, v in os.environ.items()
            if k.startswith(("NCCL", "GLOO", "UCX", "NVIDIA", "HF_", "TP_"))
        }
    )
)
log(
    f"infiniband={sorted(os.listdir('/dev/infiniband')) if os.path.isdir('/dev/infiniband') else None} gpu={os.path.exists('/usr/bin/nvidia-smi')} shm={os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize >> 20}MiB"
)


def interface_address(name):
    import fcntl
    import struct

    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return socket.inet_ntoa(fcntl.ioctl(s, 0x8915, struct.pack("256s", name.encode()))[20:24])


peers = []
if args.nnodes > 1:
    host, port = args.dist_init_addr.rsplit(":", 1)
    ifn = os.environ.get("GLOO_SOCKET_IFNAME")
    me = interface_address(ifn.split(",")[0]) if ifn else None
    deadline = time.time() + args.dist_timeout
    if args.node_rank == 0:
        srv = socket.create_server((host, int(port)))
        srv.settimeout(1)
        while len(peers) < args.nnodes - 1:
            if time.time() > deadline:
                sys.exit(
                    f"torch.distributed.DistStoreError: Timed out waiting for clients: {len(peers) + 1}/{args.nnodes} joined"
                )
            try:
                c, a = srv.accept()
            except TimeoutError:
                continue
            log(f"rank {c.recv(16).decode()} joined from {a[0]}")
            peers.append(c)
        for c in peers:
            c.sendall(b"go")
    else:
        while True:
            try:
                c = socket.create_connection(
                    (host, int(port)), timeout=2, source_address=(me, 0) if me else None
                )
                break
            except OSError as e:
                if time.time() > deadline:
                    sys.exit(
                        f"torch.distributed.DistNetworkError: The client socket has timed out connecting to ({host}, {port}): {e}"
                    )
                time.sleep(0.2)
        c.sendall(str(args.node_rank).encode())
        c.settimeout(args.dist_timeout)
        if c.recv(2) != b"go":
            sys.exit("rank 0 went away")
        log(f"joined {host}:{port}")
        peers.append(c)

    def watch(c):
        c.settimeout(None)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for o, v in ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
            c.setsockopt(socket.IPPROTO_TCP, o, v)
        try:
            c.recv(1)
        except OSError as e:
            log(f"NCCL WARN socketProgress: {e}")
        log("peer lost")
        os._exit(1)

    for c in peers:
        threading.Thread(target=watch, args=(c,), daemon=True).start()
if args.node_rank:
    threading.Event().wait()


class H(http.server.BaseHTTPRequestHandler):
    def reply(self, o):
        b = json.dumps(o).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(b)))
        self.end_headers()
        self.wfile.write(b)

    def do_GET(self):
        name = args.served_model_name or args.model_path
        if self.path in ("/health", "/health_generate"):
            self.reply({})
        elif self.path == "/v1/models":
            self.reply({"object": "list", "data": [{"id": name, "object": "model"}]})
        elif self.path == "/get_server_info":
            self.reply({"tp_size": args.tp_size, "nnodes": args.nnodes, "ranks": len(peers) + 1})
        else:
            self.send_error(404)

    def do_POST(self):
        q = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.reply(
            {
                "id": "x",
                "object": "chat.completion",
                "model": q.get("model"),
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "stub"},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )

    def log_message(self, *a):
        pass


log("The server is fired up and ready to roll!")
http.server.ThreadingHTTPServer((args.host, args.port), H).serve_forever()

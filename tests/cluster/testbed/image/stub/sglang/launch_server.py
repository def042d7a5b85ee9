"""`python3 -m sglang.launch_server …`: a rank's life, from its arguments to its end."""

import os
import signal
import sys
import threading
import time

from sglang import OLD, __version__, ending, logs, rendezvous
from sglang.faults import faults
from sglang.serving import Dummy, Front, open_server
from sglang.srt.server_args import prepare_server_args


def main():
    args = prepare_server_args(sys.argv[1:])
    wrong = faults(args.model_path)
    logs.started(args, __version__)
    if wrong.gated == "403" or (wrong.gated == "401" and not logs.has_token()):
        logs.gated(args.model_path, wrong.gated)
        sys.exit(1)
    find_draft(args)
    peers = load(args, wrong)
    if args.node_rank == 0:
        lead(args, wrong, peers)
    else:
        follow(args, wrong, peers)


def find_draft(args):
    """Log where the hub's own client, offline, finds the draft model; its error ends the rank."""
    draft = args.speculative_draft_model_path
    if draft and not os.path.isabs(draft):
        from huggingface_hub import snapshot_download

        revision = args.speculative_draft_model_revision or "main"
        logs.log(f"STUB draft model: {snapshot_download(draft, revision=revision)}")


def load(args, wrong):
    """Meet the other ranks, take the time that weights take."""
    rank, began = args.node_rank, time.monotonic()
    logs.init_begin(rank)
    peers = rendezvous.meet(args)
    logs.init_end(rank, time.monotonic() - began)
    logs.load_begin(rank)
    watcher = threading.Thread(target=peers.watch if rank == 0 else peers.follow, daemon=True)
    watcher.start()
    time.sleep(wrong.load_seconds)
    if wrong.exit_rank == rank:
        ending.scheduler_died(rank, wrong.exit_cause)
    logs.load_end(rank)
    if logs.has_graphs(args):
        logs.capture_begin(rank)
        if wrong.capture_stops:
            threading.Event().wait()
        logs.capture_end(rank)
    logs.pool(rank)
    return peers


def lead(args, wrong, peers):
    """Rank 0: open the port, warm up, serve, and drain when told to end."""
    server = open_server(args, wrong, peers, Front)
    for line in ("Started server process [1]", "Waiting for application startup."):
        logs.log(f"INFO:     {line}")
    logs.log("INFO:     Application startup complete.")
    logs.log(f"INFO:     Uvicorn running on http://{args.host}:{args.port} (Press CTRL+C to quit)")
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave, args=[server]).start())
    for number, dead in ((signal.SIGUSR1, "seen"), (signal.SIGUSR2, "unseen")):
        signal.signal(number, lambda *_, dead=dead: setattr(server, "dead", dead))
    threading.Thread(target=warm_up, args=[server], daemon=True).start()
    server.serve_forever()


def warm_up(server):
    time.sleep(server.faults.warmup_seconds)
    if server.faults.never_ready:
        return
    server.peers.step()
    server.status = "up"
    logs.log("The server is fired up and ready to roll!")


def leave(server):
    words = "SIGTERM received. signum=None frame=None. Draining requests and shutting down..."
    logs.log(words)
    server.status = "leaving"
    time.sleep(0.3)  # the real one looks every 5 s
    logs.log(
        "Gracefully exiting... Remaining number of requests 0. "
        "Remaining requests remaining_rids=[]."
    )
    server.peers.ending = True
    ending.end()


def follow(args, wrong, peers):
    """A rank > 0: its dummy server, and no end before rank 0's."""
    where = f"{args.host}:{args.port}"
    if OLD:
        logs.log(f"Starting dummy health check server at {where}")
    server = open_server(args, wrong, peers, Dummy)
    if not OLD:
        logs.log(f"Dummy health check server started in background thread at {where}")
    signal.signal(signal.SIGTERM, lambda *_: refuse_to_end(args.node_rank, server))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()


def refuse_to_end(rank, server):
    """SIGTERM to a rank > 0 stops nothing; the older version closes its dummy server for it.

    There uvicorn takes the signal, shuts down, and sends it again with the default handler: the
    kernel keeps that from PID 1, so only `docker run --init` would let it end the rank.
    """
    if not OLD:
        logs.log(
            f"SIGTERM received on node_rank {rank}; waiting for the rank-0 ShutdownReq broadcast "
            "to stop the schedulers."
        )
        return
    server.server_close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()

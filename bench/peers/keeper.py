"""keeper.py WHICH: a peer that waits in its own interpreter, forked for each run.

Its imports take 5 to 15 s; a forked child starts with them done. Prints {"ready": true} after the
imports. Then reads a line for each run, {"argv": [...], "log": PATH}, and answers {"pid": ...} and,
when the child has ended, {"status": ...}. It runs in the peer's environment, so apart from the peer
it uses nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def _module(name: str) -> Callable[[list[str]], None]:
    def run(argv: list[str]) -> None:
        sys.argv = [name, *argv]
        runpy.run_module(name, run_name="__main__", alter_sys=True)

    return run


def sglang() -> Callable[[list[str]], None]:
    import sglang.benchmark.serving  # noqa: F401

    return _module("sglang.benchmark.serving")


def rust() -> Callable[[list[str]], None]:
    from sglang.srt.rust_extensions import load_rust_extension

    load_rust_extension("sglang.srt.rust_extensions._bench")
    return _module("sglang.benchmark.rust_client")


def vllm() -> Callable[[list[str]], None]:
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    def run(argv: list[str]) -> None:
        parser = FlexibleArgumentParser()
        add_cli_args(parser)
        main(parser.parse_args(argv))

    return run


def child(run: Callable[[list[str]], None], argv: list[str], log: str) -> NoReturn:
    """The run itself, in the forked child; its output goes to the log."""
    status = 1
    # As in processes.settle, but only now: the imports belong to no client's turn.
    with contextlib.suppress(PermissionError):
        if "BENCH_PEERS_NO_PRIORITY" not in os.environ:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    try:
        run(argv)
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(bool(e.code))
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run = {"sglang": sglang, "rust": rust, "vllm": vllm}[sys.argv[1]]()
    print(json.dumps({"ready": True}), file=answers)
    while line := sys.stdin.readline():
        order = json.loads(line)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            child(run, order["argv"], order["log"])
        print(json.dumps({"pid": pid}), file=answers)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), file=answers)


if __name__ == "__main__":
    main()

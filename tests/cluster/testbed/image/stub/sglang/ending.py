"""How SGLang ends: by SIGKILL to itself, then exit code 0 where that does nothing.

`kill_process_tree` kills the children, then itself, then calls sys.exit(0). The kernel ignores a
SIGKILL that PID 1 sends to itself, so as a container's first process it leaves with 0, and under
`docker run --init` with 137.
"""

import os
import signal

from sglang.logs import log, scheduler


def end():
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def scheduler_died(rank, cause):
    """The scheduler's exception, and the main process that ends with it."""
    scheduler(rank, f"Scheduler hit an exception: Traceback (most recent call last):\n{cause}\n")
    log("Received sigquit from a child process. It usually means the child failed.")
    end()

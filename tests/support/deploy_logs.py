"""Logs of deploys as pyinfra 3.10 printed them on the simulated cluster, shortened, and what each
means: name → (log, status, diagnosis)."""

from __future__ import annotations

BEGIN = """--> Loading config...
--> Loading inventory...
--> Connecting to hosts...
    [spark-01] Connected
"""
READ = """    [spark-02] Connected

--> Preparing operation files...
    Loading: deploy.py

--> Disconnecting from hosts...
"""
OPERATIONS = """    [spark-02] Connected

--> Preparing operation files...
    Loading: deploy.py
        warning: spark-01: the halves of QSFP port 1 share a subnet
    [spark-01] Ready: deploy.py
    [spark-02] Ready: deploy.py

--> Skipping change detection
--> Beginning operation run...
--> Starting operation: Image lmsysorg/sglang:spark \n    [spark-01] No changes
    [spark-02] No changes

"""
STOPPED = """    [spark-01]   sglang-head | [2026-11-23 14:18:00 TP0] Load weight end.
    [spark-01]   sglang-head | [2026-11-23 14:18:01 TP0] Scheduler hit an exception:
    [spark-01] every rank that could be reached is stopped, its logs are kept
"""
END = """    [spark-01] Error: executed 0 commands

--> Disconnecting from hosts...
--> pyinfra error: Over 0% of hosts failed (50%)
"""

LOGS = {
    "does not fit": (
        f"""{BEGIN}{READ}--> pyinfra error in deploys/once.py line 29: refused, nothing was changed:
    qwen72b does not fit: 145.4 GB of weights > 111.0 GB -> at least 2 nodes
""",
        "CONFIG_FAILED",
        "qwen72b does not fit: 145.4 GB of weights > 111.0 GB -> at least 2 nodes",
    ),
    "two reasons": (
        f"""{BEGIN}{READ}--> pyinfra error in deploys/once.py line 29: refused, nothing was changed:
    spark-02: port 30000 is taken by nginx -> stop it
    spark-01: no QSFP port is Up -> plug it in
""",
        "CONFIG_FAILED",
        "spark-02: port 30000 is taken by nginx -> stop it; "
        "spark-01: no QSFP port is Up -> plug it in",
    ),
    "refused after the image had come": (
        f"""{BEGIN}{OPERATIONS}--> Starting operation: Check again, with what has come \n"""
        """    [spark-01] refused; what came is kept, no rank was touched:
    [spark-01]   --nosuch is not an option of SGLang 0.5.23 -> extra_args
"""
        f"{END}",
        "CONFIG_FAILED",
        "--nosuch is not an option of SGLang 0.5.23 -> extra_args",
    ),
    "never ready": (
        f"""{BEGIN}{OPERATIONS}--> Starting operation: Every rank ready \n    [spark-02] Skipped
    [spark-01] waiting, 1 of 4 s: spark-01 loading; spark-02 loading
    [spark-01] not ready after 4 s (ready_timeout = 4): spark-01 loading -> --data ready_timeout=8
{STOPPED}{END}""",
        "STARTUP_FAILED",
        "not ready after 4 s (ready_timeout = 4): spark-01 loading -> --data ready_timeout=8",
    ),
    "another model": (
        f"""{BEGIN}{OPERATIONS}--> Starting operation: Every rank ready \n    [spark-02] Skipped
    [spark-01] every rank is healthy after 3 s
    [spark-01] Success

--> Starting operation: org/a is served \n    [spark-02] Skipped
    [spark-01] spark-01: serves other/model, wanted is org/a
{STOPPED}{END}""",
        "STARTUP_FAILED",
        "spark-01: serves other/model, wanted is org/a",
    ),
    "a worker dies": (
        f"""{BEGIN}{OPERATIONS}--> Starting operation: Every rank ready \n    [spark-02] Skipped
    [spark-01] waiting, 1 of 600 s: spark-01 loading; spark-02 loading
    [spark-01] spark-02: sglang-worker-1 has ended: exited with exit code 0
    [spark-02] the GPU's memory ran out -> --data mem_fraction=0.75
    [spark-02]   torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
    [spark-01] another rank ended, or the link to it broke -> see the other ranks' logs
    [spark-01]   …Connection reset by peer.
{STOPPED}{END}""",
        "STARTUP_FAILED",
        "spark-02: sglang-worker-1 has ended: exited with exit code 0; "
        "the GPU's memory ran out -> --data mem_fraction=0.75; "
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.; "
        "another rank ended, or the link to it broke -> see the other ranks' logs",
    ),
    "a node that is off": (
        f"""{BEGIN}    [spark-02] Could not connect (timed out)

--> Disconnecting from hosts...
--> pyinfra error: Over 0% of hosts failed (50%)
""",
        "STARTUP_FAILED",
        "[spark-02] Could not connect (timed out); "
        "pyinfra error: Over 0% of hosts failed (50%)",
    ),
    "a traceback": (
        f"""{BEGIN}--> An unexpected exception occurred in: worker/1:
  File "/p/inventory.py", line 3, in <module>
NameError: name 'heads' is not defined
""",
        "STARTUP_FAILED",
        "An unexpected exception occurred in: worker/1:; "
        'File "/p/inventory.py", line 3, in <module>; NameError: name \'heads\' is not defined',
    ),
}  # fmt: skip

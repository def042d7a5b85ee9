"""`spark-bench verify`: the client against a server with known times, on this machine.

The client's side is what `run` uses: the recorder, the reading, the summary, the audit. The
reference server logs when it really sent each chunk, so the difference is the client's own error.

    selftest.py   all of it, one after the other; the search for the capacity
    bench.py      one load against the reference server
    accuracy.py   what the client reports against the truth; how accurate is enough
    verdict.py    whether the machine is good enough; if not, why, and what helps
    cores.py      cores to run on; what else the machine is doing
"""

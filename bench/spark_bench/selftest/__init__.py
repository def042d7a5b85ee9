"""`spark-bench verify`: the client against a server with known times, on this machine.

The client's side is the code that `run` uses: recorder, reading, summary, audit. The reference
server logs when it really sent each chunk, so any difference is the client's own error.

    selftest.py         the whole selftest: which cores to use, each load, the search for capacity
    bench.py            one load against the reference server
    accuracy.py         the client's figures compared with the truth; how accurate is enough
    verdict.py          whether the machine is good enough; if not, why, and what helps
    selftest_tables.py  the tables that `verify` prints
"""

"""`spark-bench run`: reach the server, negotiate, warm it up, send, read, save.

execute.py    all of it: points of a sweep, repeats
context.py    what all loads of a run have in common; Ctrl-C
reach.py      the server: where it is, how it is talked to, which model it serves
negotiate.py  what it understands, found out with a few short requests
run_load.py   what one repeat sends, and when
measure.py    one repeat: the warm-up, an empty prefix cache, the measured load
responses.py  what came back, read once the clock has stopped, and its figures
notes.py      what a reader of the figures should know
save.py       the result, and where it is written
"""

"""`spark-bench run`: reach the server, negotiate, warm it up, send, read, save.

execute.py    the whole run: points of a sweep, repeats
context.py    what all loads of a run share; Ctrl-C
reach.py      the server: its address, the connection to it, the model that it serves
negotiate.py  what the server understands, found out with a few short requests
run_load.py   what one repeat sends, and when
measure.py    one repeat: warm up, empty the prefix cache, send the measured load
responses.py  the responses, read once the clock has stopped, and their figures
save.py       the result, notes for its readers, and where it is written
"""

"""`spark-bench verify`: the client against the ruler, on this machine.

The client's side is what `run` uses: the recorder, the reading, the summary, the audit. The ruler
logs when it really sent each chunk, so that the difference is the client's own error.

    shape.py     what is sent, and how the ruler answers
    machine.py   cores to run on; what else the machine is doing
    measure.py   one load against the ruler
    compare.py   what the client reports, beside the truth
    capacity.py  how much it can take
    limits.py    what is good enough
    aspects.py   how each thing stands
    causes.py    why it is not good enough, and what helps
    judge.py     the verdict
    story.py     all of it, one after the other
    steps.py     progress without a terminal
    tables.py    what is printed at the end
"""

from __future__ import annotations

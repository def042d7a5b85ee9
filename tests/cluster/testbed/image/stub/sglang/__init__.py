"""A stub that stands where SGLang stands: its command line, log lines and HTTP answers, no engine.

What it imitates was observed on SGLang 0.5.23 (CPU, two nodes) and read in the sources of
0.5.23 and 0.5.3.post3. Which version it plays is what the image's package metadata says.
"""

from importlib.metadata import version

__version__ = version("sglang")
# 0.5.3 and 0.5.23 differ in what they log, in /ping and in what a worker does with SIGTERM
OLD = tuple(int(part) for part in __version__.split(".")[:3]) < (0, 5, 5)

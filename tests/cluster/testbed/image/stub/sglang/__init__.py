"""A stub that stands where SGLang stands: its command line, log lines and HTTP answers, no engine.

What it imitates was observed on SGLang 0.5.23 (CPU, two nodes) and read in the sources of
0.5.23 and 0.5.3.post3. Which version it plays is what the image's package metadata says.
"""

from pathlib import Path

# Without importlib.metadata, and no dataclasses elsewhere: a rank would import 39 modules more.
(METADATA,) = Path(__file__).parents[1].glob("sglang-*.dist-info")
__version__ = METADATA.name.removeprefix("sglang-").removesuffix(".dist-info")
# 0.5.3 and 0.5.23 differ in what they log, in /ping and in what a worker does with SIGTERM
# A build that is no release calls itself 0.0.0.dev1+…, and is newer than most.
OLD = (0, 0, 0) < tuple(int(part) for part in __version__.split(".")[:3]) < (0, 5, 5)

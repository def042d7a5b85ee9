"""What all loads of a command have in common."""

from __future__ import annotations

from dataclasses import dataclass

from spark_bench.display.progress import ProgressDisplay
from spark_bench.prompts.tokens import Tokens
from spark_bench.run.asking import Agreed
from spark_bench.run.interrupt import Interrupts
from spark_bench.run.reach import Reached


@dataclass(frozen=True)
class Scene:
    """The server, what was agreed with it, and who watches."""

    server: Reached
    agreed: Agreed
    tokens: Tokens
    show: ProgressDisplay
    interrupts: Interrupts

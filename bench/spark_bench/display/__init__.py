"""What a user sees: progress while a load runs, tables when it is done."""

from __future__ import annotations

from spark_bench.display.show import Show, chosen

__all__ = ["Show", "chosen"]

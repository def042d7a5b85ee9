"""The plan, for people: what is done, what is not and why, and how long it will take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from spark_bench.display.figures import duration
from spark_bench.suite.asked import Asked
from spark_bench.suite.estimate import Estimate, estimate
from spark_bench.suite.output import Load
from spark_bench.suite.plan import Cell
from spark_bench.suite.table import plain
from spark_bench.suite.vary import said

HEAD = ("#", "Model", "Nodes", "TP", "Start-up", "Benchmark", "Settings")


def plan(
    cells: Sequence[Cell],
    asked: Asked,
    load: Load,
    earlier: Mapping[str, Estimate],
    done: Collection[str] = (),
) -> str:
    """All of it as text. done: names of what an earlier sitting did."""
    left = [cell for cell in cells if not cell.skip and cell.name not in done]
    guesses = [estimate(cell, asked, earlier) for cell in left]
    table = [_line(n, *pair) for n, pair in enumerate(zip(left, guesses, strict=True), start=1)]
    total = sum(guess.seconds for guess in guesses)
    known = sum(guess.measured for guess in guesses)
    how = f"{known} of them as an earlier run took, the rest roughly" if known else "roughly"
    parts = [
        f"{len(left)} to measure, one after the other; {load}",
        plain(HEAD, table, left=2),
        f"about {duration(total)} in all, {how}, and the downloads; at most "
        f"{duration(len(left) * (asked.startup_timeout + asked.bench_timeout))} by the timeouts, "
        "not counting downloads",
    ]
    if done:
        parts.append(f"{len(done)} done already: {', '.join(sorted(done))}")
    if skipped := [f"  {c.short} {c.variant}".rstrip() + f": {c.skip}" for c in cells if c.skip]:
        parts.append("\n".join([f"{len(skipped)} skipped:", *skipped]))
    parts.append(f"files: {asked.folder}")
    return "\n\n".join(parts)


def _line(number: int, cell: Cell, guess: Estimate) -> list[str]:
    mark = "" if guess.measured else "~"
    settings = " ".join(f"{name}={said(value)}" for name, value in cell.settings.items())
    return [
        str(number),
        cell.short,
        str(cell.nodes),
        str(cell.tp),
        mark + duration(guess.startup),
        mark + duration(guess.bench),
        settings or "as the inventory has them",
    ]

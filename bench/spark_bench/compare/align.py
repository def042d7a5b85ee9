"""What differs between runs' settings: what rules out a comparison, and what may explain it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from spark_bench.compare.runs import ComparedRun, ResultPart
from spark_bench.errors import BenchError
from spark_bench.printable import printable

# Fields of the config that decide neither what is sent nor when. A field not named here must be
# the same.
FREE = ("command", "overrides", "repeat")
# Which server, how tokens are counted, what ran before, and limits that are applied afterwards: may
# differ, and are shown.
SHOWN = ("model", "url", "slo", "count_tokens", "warmup")
# Of these only whether there were any: how many it took to warm up says nothing.
EITHER = ("warmup",)
ABSENT = None
# Values of a field that a refusal names.
NAMED = 3
# Provenance that differs between any two runs and explains nothing: an engine draws a seed at each
# start, and the load average covers the minutes before.
CHANCE = ("random_seed", "load_average")


class CantCompare(BenchError):
    """Runs whose difference would say nothing."""

    exit_code = 2


class Difference(Struct, frozen=True):
    """A field that differs between runs.

    values: of each run, in order; several where its files differ
    """

    field: str
    values: tuple[tuple[Any, ...], ...]


def find_differences(runs: Sequence[ComparedRun]) -> tuple[list[Difference], list[Difference]]:
    """Return (what rules out the comparison, what may explain its outcome)."""
    forbidding = [
        *_differing(runs, lambda part: {"status": part.status, "client": part.verdict}),
        *_differing(runs, lambda part: _config(part, shown=False)),
    ]
    partial = Difference("status", tuple(_seen(run, lambda part: part.status) for run in runs))
    if any("partial" in values for values in partial.values):
        forbidding = [partial, *(each for each in forbidding if each.field != "status")]
    explaining = [
        *_differing(runs, lambda part: _config(part, shown=True)),
        *_differing(runs, _provenance),
    ]
    return forbidding, explaining


def refuse_differences(forbidding: Sequence[Difference], runs: Sequence[ComparedRun]) -> None:
    """Raise CantCompare, naming every difference and the cure, if there are any."""
    if not forbidding:
        return
    differences = "; ".join(f"{each.field}: {_few(each, runs)}" for each in forbidding)
    raise CantCompare(
        f"these runs can't be compared: they differ in {differences}. "
        "Measure again with the same settings, or pass --anyway."
    )


def _few(difference: Difference, runs: Sequence[ComparedRun]) -> str:
    """Its values with their runs, or just how many there are."""
    distinct = list(by_value(difference, runs))
    if len(distinct) > NAMED:
        return f"{len(distinct)} different values"
    return values(difference, runs)


def refuse_inexact(runs: Sequence[ComparedRun]) -> None:
    """Raise CantCompare for gates on approximate figures: their spread may be the client's own, or
    tokens within an event could not be told apart."""
    if inexact := [f"{run.letter} ({run.name})" for run in runs if not exact(run)]:
        raise CantCompare(
            f"can't judge gates: figures are approximate in {', '.join(inexact)} (see "
            "audit.reasons in the result). Fix the cause and measure again, most often on an "
            "otherwise idle client, or pass --anyway"
        )


def exact(run: ComparedRun) -> bool:
    """Whether every file's verdict is "exact"."""
    return all(part.verdict == "exact" for part in run.parts)


def values(difference: Difference, runs: Sequence[ComparedRun], most: int = 3) -> str:
    """Each value with its runs: "7 (A), 8 (B, C)"."""
    return ", ".join(f"{value} ({who})" for who, value in by_value(difference, runs, most))


def by_value(
    difference: Difference, runs: Sequence[ComparedRun], most: int = 3
) -> Iterator[tuple[str, str]]:
    """Yield (the runs that have it, the value) in the order of runs; at most `most` are named."""
    letters: dict[str, list[str]] = {}
    for run, own in zip(runs, difference.values, strict=True):
        letters.setdefault(" and ".join(map(_word, own)), []).append(run.letter)
    for value, who in letters.items():
        more = f" and {len(who) - most} more" if len(who) > most else ""
        yield ", ".join(who[:most]) + more, value


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return ("no", "yes")[value] if isinstance(value, bool) else printable(str(value))


def _config(part: ResultPart, shown: bool) -> dict[str, Any]:
    """The fields that are just shown, or those that must be the same."""
    return {
        name: bool(value) if name in EITHER else value
        for name, value in part.config.items()
        if (top := name.split(".")[0].split("[")[0]) not in FREE and (top in SHOWN) == shown
    }


def _provenance(part: ResultPart) -> dict[str, Any]:
    """Provenance without what differs by chance."""
    return {
        name: value
        for name, value in part.provenance.items()
        if name.rpartition(".")[2].partition("[")[0] not in CHANCE
    }


def _differing(
    runs: Sequence[ComparedRun], fields: Callable[[ResultPart], dict[str, Any]]
) -> Iterator[Difference]:
    """The fields with more than one value over all files."""
    rows = [[fields(part) for part in run.parts] for run in runs]
    everything = [row for run in rows for row in run]
    first = everything[0]
    # Most fields are the same everywhere: only the others are looked at closely.
    suspects = [
        name
        for name in dict.fromkeys(name for row in everything for name in row)
        if any(row.get(name, ABSENT) != first.get(name, ABSENT) for row in everything)
    ]
    for name in suspects:
        yield Difference(
            name, tuple(_distinct(row.get(name, ABSENT) for row in run) for run in rows)
        )


def _seen(run: ComparedRun, what: Callable[[ResultPart], Any]) -> tuple[Any, ...]:
    return _distinct(what(part) for part in run.parts)


def _distinct(items: Iterator[Any]) -> tuple[Any, ...]:
    """In their order; they need not be hashable."""
    return tuple({repr(each): each for each in items}.values())

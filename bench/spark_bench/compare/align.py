"""What differs between runs: what forbids a comparison, and what may explain its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from spark_bench.compare.runs import ComparedRun, ResultPart
from spark_bench.errors import BenchError
from spark_bench.printable import printable

# Fields of the config that neither decide what is sent nor when; a field that is not named here
# must be the same. overrides says how the others came about.
FREE = ("command", "overrides", "repeat")
# They say which server, how its tokens are counted, what went before, or are limits that figures
# are held against afterwards.
SHOWN = ("model", "url", "slo", "count_tokens", "warmup")
# Of these only whether there was any: how many it took until the server was warm says nothing.
EITHER = ("warmup",)
ABSENT = None
# As many values of a field as a refusal names.
NAMED = 3
# Of the provenance, what differs between any two runs and explains nothing: engines draw a seed at
# each start, and the load average is of the minutes before.
CHANCE = ("random_seed", "load_average")


class CantCompare(BenchError):
    """Runs that say nothing beside each other."""

    exit_code = 2


class Difference(Struct, frozen=True):
    """A thing in which runs differ.

    values: of each run, in their order; several where its files differ
    """

    field: str
    values: tuple[tuple[Any, ...], ...]


def find_differences(runs: Sequence[ComparedRun]) -> tuple[list[Difference], list[Difference]]:
    """(what forbids the comparison, what may explain its outcome)."""
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
    """CantCompare that names all of it, with the cure."""
    if not forbidding:
        return
    said = "; ".join(f"{each.field}: {_few(each, runs)}" for each in forbidding)
    raise CantCompare(
        f"these runs can't be compared, as a difference between them would say nothing: {said}. "
        "Measure again with the same, or compare them --anyway."
    )


def _few(difference: Difference, runs: Sequence[ComparedRun]) -> str:
    """Its values with their runs; of many, how many: a sentence is to be read."""
    found = list(by_value(difference, runs))
    if len(found) > NAMED:
        return f"{len(found)} different ones"
    return values(difference, runs)


def refuse_inexact(runs: Sequence[ComparedRun]) -> None:
    """CantCompare for gates on runs whose figures are approximate: the client couldn't keep up, so
    that their spread is its own, or nothing told the tokens of an event apart."""
    if inexact := [f"{run.letter} ({run.name})" for run in runs if not exact(run)]:
        raise CantCompare(
            f"gates can't be judged: figures are approximate in {', '.join(inexact)}, see "
            "audit.reasons there; measure again without that cause (most often on a client that "
            "is otherwise idle), or judge --anyway"
        )


def exact(run: ComparedRun) -> bool:
    """The client says so of every file."""
    return all(part.verdict == "exact" for part in run.parts)


def values(difference: Difference, runs: Sequence[ComparedRun], most: int = 3) -> str:
    """Each value with the runs that have it: "7 (A), 8 (B, C)"."""
    return ", ".join(f"{value} ({who})" for who, value in by_value(difference, runs, most))


def by_value(
    difference: Difference, runs: Sequence[ComparedRun], most: int = 3
) -> Iterator[tuple[str, str]]:
    """(the runs that have it, the value), in the order of the runs; `most` are named."""
    found: dict[str, list[str]] = {}
    for run, own in zip(runs, difference.values, strict=True):
        found.setdefault(" and ".join(map(_word, own)), []).append(run.letter)
    for value, who in found.items():
        more = f" and {len(who) - most} more" if len(who) > most else ""
        yield ", ".join(who[:most]) + more, value


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return ("no", "yes")[value] if isinstance(value, bool) else printable(str(value))


def _config(part: ResultPart, shown: bool) -> dict[str, Any]:
    """Its fields that are only shown, or those that must be the same."""
    return {
        name: bool(value) if name in EITHER else value
        for name, value in part.config.items()
        if (top := name.split(".")[0].split("[")[0]) not in FREE and (top in SHOWN) == shown
    }


def _provenance(part: ResultPart) -> dict[str, Any]:
    """Without what is another by chance each time."""
    return {
        name: value
        for name, value in part.provenance.items()
        if name.rpartition(".")[2].partition("[")[0] not in CHANCE
    }


def _differing(
    runs: Sequence[ComparedRun], fields: Callable[[ResultPart], dict[str, Any]]
) -> Iterator[Difference]:
    """Of the fields of all files, those with more than one value."""
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


def _distinct(found: Iterator[Any]) -> tuple[Any, ...]:
    """In their order; they need not be hashable."""
    return tuple({repr(each): each for each in found}.values())

"""What runs are called on the page: short, and no two different ones alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from spark_bench.report.run import Run

_MOST_SETTINGS = 3


class Named(Struct, frozen=True):
    """A run as the page has it.

    number: its place in the matrix, from 1
    model: its short name
    variant: the settings in which runs of this model differ ("tp_size=2"), or ""
    """

    number: int
    run: Run
    model: str
    variant: str

    @property
    def label(self) -> str:
        """The name of what was measured, whatever the load."""
        return f"{self.model} {self.variant}".strip()

    @property
    def anchor(self) -> str:
        return f"run-{self.number}"


def name(runs: Sequence[Run]) -> tuple[Named, ...]:
    """In the matrix' order: by model, variant and load, then time."""
    shorts = short_names({run.entry.model for run in runs})
    differing = _differing(runs)
    unnumbered = [
        Named(0, run, shorts[run.entry.model], variant(run, differing[run.entry.model]))
        for run in runs
    ]
    ordered = sorted(unnumbered, key=_place)
    return tuple(
        Named(number, each.run, each.model, each.variant)
        for number, each in enumerate(ordered, start=1)
    )


def short_name(model: str) -> str:
    """Without the organisation or folder."""
    return model.rstrip("/").rsplit("/", 1)[-1] or model


def short_names(models: Iterable[str]) -> dict[str, str]:
    """Short where that leaves them different.

    >>> short_names(["openai/gpt-oss-120b", "a/x", "b/x"])
    {'openai/gpt-oss-120b': 'gpt-oss-120b', 'a/x': 'a/x', 'b/x': 'b/x'}
    """
    by_short: dict[str, list[str]] = defaultdict(list)
    for model in models:
        by_short[short_name(model)].append(model)
    return {
        model: short if len(same) == 1 else model
        for short, same in by_short.items()
        for model in same
    }


def variant(run: Run, names: Sequence[str]) -> str:
    """These settings of a run in words."""
    return " ".join(f"{name}={run.settings.get(name, '-')}" for name in names)


def _differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """By model, the settings that its runs have different values of; few, as names are short."""
    seen: dict[str, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    counts: dict[str, int] = defaultdict(int)
    present: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for run in runs:
        counts[run.entry.model] += bool(run.settings)
        for key, value in run.settings.items():
            seen[run.entry.model][key].add(repr(value))
            present[run.entry.model][key] += 1
    return {
        run.entry.model: [
            key
            for key, values in seen[run.entry.model].items()
            if len(values) > 1 or present[run.entry.model][key] < counts[run.entry.model]
        ][:_MOST_SETTINGS]
        for run in runs
    }


def _place(named: Named) -> tuple[Any, ...]:
    config = named.run.config
    return (
        named.model.lower(),
        named.variant,
        config.profile,
        config.input_len or 0,
        config.output_len or 0,
        config.request_rate or 0,
        config.concurrency or 0,
        named.run.entry.id,
    )

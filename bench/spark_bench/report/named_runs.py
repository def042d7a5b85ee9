"""What the runs of a page are called: by number, model, and the settings in which they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from spark_bench.report.gather import Gathered
from spark_bench.report.quality_section import (
    QualityRun,
    newest_scores,
    wrong_servers,
)
from spark_bench.report.report_run import ReportRun

_MOST_SETTINGS = 3


class NamedRun(Struct, frozen=True):
    """A run as the page shows it.

    number: its row in the table of all runs, from 1
    model: its short name
    variant: the settings in which runs of this model differ ("tp_size=2"), or ""
    scores: its server's quality results, by task
    wrong: why its server's answers can't be used; "": nothing says so
    warned: what the probes of its deploy doubt; "": nothing
    """

    number: int
    run: ReportRun
    model: str
    variant: str
    scores: dict[str, QualityRun] = {}
    wrong: str = ""
    warned: str = ""

    @property
    def label(self) -> str:
        """The model and variant, without the load."""
        return f"{self.model} {self.variant}".strip()

    @property
    def anchor(self) -> str:
        return f"run-{self.number}"


def name_runs(gathered: Gathered) -> tuple[tuple[NamedRun, ...], dict[str, tuple[str, str]]]:
    """Number runs by time, the oldest first.

    Returns them, and the model and the variant of each server.
    """
    measured: list[ReportRun | QualityRun] = [*gathered.runs, *gathered.scores]
    shorts = short_names({run.entry.model for run in measured})
    differing = _differing(measured)
    labels = {
        run.server: (shorts[run.entry.model], variant(run, differing[run.entry.model]))
        for run in measured
    }
    newest = newest_scores(gathered.scores)
    wrong = wrong_servers(newest, {s: " ".join(label).strip() for s, label in labels.items()})
    for run in gathered.runs:
        if reason := gathered.marked.get(run.entry.path):
            wrong[run.server] = reason
    return tuple(
        NamedRun(
            *(number, run, shorts[run.entry.model], variant(run, differing[run.entry.model])),
            scores=newest.get(run.server, {}),
            wrong=wrong.get(run.server, ""),
            warned=gathered.warned.get(run.entry.path, ""),
        )
        for number, run in enumerate(gathered.runs, start=1)
    ), labels


def short_model_name(model: str) -> str:
    """A model's name without organization or folder."""
    return model.rstrip("/").rsplit("/", 1)[-1] or model


def short_names(models: Iterable[str]) -> dict[str, str]:
    """Short names where those are unique.

    >>> short_names(["openai/gpt-oss-120b", "a/x", "b/x"])
    {'openai/gpt-oss-120b': 'gpt-oss-120b', 'a/x': 'a/x', 'b/x': 'b/x'}
    """
    by_short: dict[str, list[str]] = defaultdict(list)
    for model in models:
        by_short[short_model_name(model)].append(model)
    return {
        model: short if len(same) == 1 else model
        for short, same in by_short.items()
        for model in same
    }


def variant(run: ReportRun | QualityRun, names: Sequence[str]) -> str:
    """These settings of a run as text."""
    return " ".join(f"{name}={run.settings.get(name, '-')}" for name in names)


def _differing(runs: Sequence[ReportRun | QualityRun]) -> dict[str, list[str]]:
    """By model, the settings in which its runs differ; a few, since names are short."""
    values_of: dict[str, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    counts: dict[str, int] = defaultdict(int)
    present: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for run in runs:
        counts[run.entry.model] += bool(run.settings)
        for key, value in run.settings.items():
            values_of[run.entry.model][key].add(repr(value))
            present[run.entry.model][key] += 1
    return {
        run.entry.model: [
            key
            for key, values in values_of[run.entry.model].items()
            if len(values) > 1 or present[run.entry.model][key] < counts[run.entry.model]
        ][:_MOST_SETTINGS]
        for run in runs
    }

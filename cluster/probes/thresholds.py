"""What thresholds.toml holds."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

THRESHOLDS = Path(__file__).with_name("thresholds.toml")


class ProbeLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The thresholds, which the file explains."""

    phrase_units: int
    phrase_times: int
    repeated_units: int
    exclamation_marks: int
    script_characters: int
    sums_right: int
    continuations_right: int
    logprob_floor: float
    logprob_tokens: int
    accept_least: float
    accept_slack: float
    accept_steps: int
    proven_runs: int


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A probe on something that answers as it should.

    + on: what answered, and where it is from
    + runs: of the probe, without those that it skipped; alarms: of these, found wrong
    """

    probe: str
    on: str
    kind: Literal["real model", "recorded", "stub"]
    runs: int
    alarms: int


class Detection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same, broken in a stated way.

    + caught: runs in which some probe was wrong; by: in how many each of them was
    """

    fault: str
    on: str
    runs: int
    caught: int
    by: Mapping[str, int]


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often the probes are wrong where nothing is, and right where something is wrong."""

    trials: tuple[Trial, ...] = ()
    detections: tuple[Detection, ...] = ()


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file.

    + causes: by probe, the likeliest first
    """

    limits: ProbeLimits
    causes: Mapping[str, tuple[str, ...]]
    measured: Measured = Measured()

    def tried_on(self, probe: str) -> str:
        """On what the probe was tried, with the runs and false alarms, for people."""
        trials = [trial for trial in self.measured.trials if trial.probe == probe]
        words = (f"{t.on} ({t.kind}): {t.alarms} of {t.runs} runs wrong" for t in trials)
        return "; ".join(words) or "no model yet"

    def proven(self, probe: str) -> bool:
        """Whether the probe was right on real models often enough to fail a switch."""
        real = [t for t in self.measured.trials if t.probe == probe and t.kind == "real model"]
        runs, alarms = sum(t.runs for t in real), sum(t.alarms for t in real)
        return runs >= self.limits.proven_runs and not alarms


@cache
def thresholds() -> Thresholds:
    return msgspec.convert(tomllib.loads(THRESHOLDS.read_text()), type=Thresholds)

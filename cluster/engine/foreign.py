"""Options of other engines, and what means the same here; foreign.toml explains its fields."""

import tomllib
from functools import cache
from pathlib import Path

FOREIGN = Path(__file__).with_name("foreign.toml")


def counterpart(option: str, value: str = "") -> tuple[str, str] | None:
    """(the engine that has the option, what to write instead of it), or None.

    + option: as written, without a value ("--max-model-len", "-ngl")
    + value: what was given with it; "" where nothing was
    """
    for engine, entries in _table().items():
        if not (entry := entries.get(option)):
            continue
        value = value or "VALUE"
        if setting := entry.get("setting"):
            return engine, f"--data {setting}" if "=" in setting else f"--data {setting}={value}"
        if ours := entry.get("option"):
            return engine, f"{ours.format(value=value)} in extra_args"
        return engine, f"leave it out: {entry['drop']}"
    return None


@cache
def _table() -> dict[str, dict[str, dict[str, str]]]:
    return tomllib.loads(FOREIGN.read_text())

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
        if entry := entries.get(option):
            return engine, _advice(entry, value or "VALUE")
    return None


def _advice(entry: dict[str, str], value: str) -> str:
    if setting := entry.get("setting"):
        return f"--data {setting}" if "=" in setting else f"--data {setting}={value}"
    if option := entry.get("option"):
        return f"{option.format(value=value)} in extra_args"
    return f"leave it out: {entry['drop']}"


@cache
def _table() -> dict[str, dict[str, dict[str, str]]]:
    return tomllib.loads(FOREIGN.read_text())

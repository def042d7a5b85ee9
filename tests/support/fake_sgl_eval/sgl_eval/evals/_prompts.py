"""A prompt's file."""

from pathlib import Path


def resolve_prompt(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.yaml")

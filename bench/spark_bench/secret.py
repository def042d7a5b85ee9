"""The API key: from the environment or a file, never from argv, never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from spark_bench.errors import BadInput

VARIABLE = "SPARK_BENCH_API_KEY"


class Secret:
    """A text that neither repr() nor str() tells; msgspec refuses to encode it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(…)"

    def reveal(self) -> str:
        """The text itself, for the request's head alone."""
        return self._text


def api_key(file: Path | None, environ: Mapping[str, str]) -> Secret | None:
    """The key of `file`, else of $SPARK_BENCH_API_KEY, else None.

    $OPENAI_API_KEY is left alone: it would be sent to whatever server --url names.
    """
    if file is not None:
        return _from_file(file, f"--api-key-file {file}")
    if text := environ.get(VARIABLE, "").strip():
        return Secret(_printable(text, f"${VARIABLE}"))
    return None


def project_key(file: str) -> Secret | None:
    """The key in the file that the project's listing names; None where it names none."""
    return _from_file(Path(file), f"api_key_file = {file}") if file else None


def _from_file(file: Path, source: str) -> Secret:
    """The key in a file. source: what named it, for who reads of a mistake."""
    return Secret(_printable(_text(file, source), source))


def _text(file: Path, source: str) -> str:
    try:
        text = file.read_text().strip()
        mode = os.stat(file).st_mode & 0o777
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{source} can't be read: {error}") from None
    if not text:
        raise BadInput(f"{source} is empty: put the key on its only line")
    if mode & 0o077:
        click.echo(
            f"Warning: others can read the API key in {file} (mode {mode:04o}): chmod 600 {file}",
            err=True,
        )
    return text


def _printable(text: str, source: str) -> str:
    """A key goes into one header line: printable ASCII, no blanks."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadInput(
            f"{source} holds a character that no HTTP header may have: one line with the key "
            "alone, without quotes, is what it should be"
        )
    return text

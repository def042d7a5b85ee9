"""The API key: from the environment or a file, never from argv, never shown."""

import os
from collections.abc import Mapping
from pathlib import Path

from spark_bench.errors import BadInput

VARIABLE = "SPARK_BENCH_API_KEY"


class Secret:
    """A text that neither repr() nor str() shows; msgspec refuses to encode it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(…)"

    def reveal(self) -> str:
        """The text itself; only for the headers of requests."""
        return self._text


def api_key(file: Path | None, environ: Mapping[str, str]) -> Secret | None:
    """The key in `file`, else in $SPARK_BENCH_API_KEY, else None.

    $OPENAI_API_KEY is not used: it would be sent to whatever server --url names.

    Raises BadInput for a file that can't be read or that others can read, and for a key that
    doesn't fit into an HTTP header.
    """
    if file is not None:
        return _read_key(file, f"--api-key-file {file}")
    if text := environ.get(VARIABLE, "").strip():
        return Secret(_check_header(text, f"${VARIABLE}"))
    return None


def project_key(file: str) -> Secret | None:
    """The key in the file that the project's listing names; None if it names none.

    Raises BadInput like `api_key`.
    """
    return _read_key(Path(file), f"api_key_file = {file}") if file else None


def _read_key(file: Path, source: str) -> Secret:
    """The key in a file that nobody else can read, which the project's deploy requires too.

    source: what named the file, for the message of a BadInput
    """
    try:
        text = file.read_text().strip()
        mode = os.stat(file).st_mode & 0o777
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{source} can't be read: {error}") from None
    if mode & 0o077:
        raise BadInput(f"{source} can be read by others (mode {mode:04o}): chmod 600 {file}")
    if not text:
        raise BadInput(f"{source} is empty: put the key on its only line")
    return Secret(_check_header(text, source))


def _check_header(text: str, source: str) -> str:
    """Return the key if it fits into one header line (printable ASCII, no blanks), else BadInput.

    source: what named the key, for the message
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadInput(
            f"{source} holds a character that no HTTP header may have: it should be one line with "
            "the key alone, without quotes"
        )
    return text

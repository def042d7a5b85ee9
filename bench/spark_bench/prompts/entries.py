"""The entries of a JSON list or of JSON lines, one at a time: a file may be larger than memory."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import count
from pathlib import Path

from spark_bench.errors import BadInput

WINDOW = 1 << 20  # characters read at once
ENTRY = 1 << 24  # characters that one entry may have: beyond, the file is something else
BLANK = " \t\r\n"


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One entry, and where it stands: "line 3", "entry 3"."""

    place: str
    value: object


def read_entries(path: Path) -> Iterator[DatasetEntry]:
    """All entries of the file in order; what can't be read is a BadInput."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            if _first(file) == "[":
                yield from _listed(path, file)
            else:
                yield from _lines(path, file)
    except OSError as e:
        raise BadInput(f"{path} can't be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise BadInput(f"{path} is not UTF-8 text: {e.reason} at byte {e.start}") from e


def _first(file: TextIOWrapper) -> str:
    """The first character that isn't blank; the file is at its start again."""
    while (character := file.read(1)) and character in BLANK:
        pass
    file.seek(0)
    return character


def _lines(path: Path, file: TextIOWrapper) -> Iterator[DatasetEntry]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                yield DatasetEntry(f"line {number}", json.loads(line))
            except (ValueError, RecursionError) as e:
                raise BadInput(
                    f"{path}, line {number}: not JSON ({e}); expected a JSON list, or one JSON"
                    " object a line"
                ) from e


class _Window:
    """The part of a file that is being read."""

    def __init__(self, file: TextIOWrapper) -> None:
        self._file = file
        self.text, self.at = "", 0

    def more(self) -> bool:
        """Read on; False at the file's end. As much again as there is, so that a long entry is
        not decoded from its start too often."""
        rest = self.text[self.at :]
        added = self._file.read(max(WINDOW, len(rest)))
        self.text, self.at = rest + added, 0
        return bool(added)

    def next(self) -> str:
        """Go to the next character that isn't blank, and give it; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in BLANK:
                self.at += 1
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]


def _listed(path: Path, file: TextIOWrapper) -> Iterator[DatasetEntry]:
    window = _Window(file)
    window.next()
    window.at += 1  # the bracket
    if window.next() == "]":
        return
    for number in count(1):
        place = f"entry {number}"
        window.next()
        value = _value(path, place, window)
        after = window.next()
        if after not in (",", "]"):
            raise BadInput(f"{path}, {place}: no comma after it, and no end of the JSON list")
        window.at += 1
        yield DatasetEntry(place, value)
        if after == "]":
            return


def _value(path: Path, place: str, window: _Window) -> object:
    decoder = json.JSONDecoder()
    while True:
        try:
            value, window.at = decoder.raw_decode(window.text, window.at)
            return value
        except RecursionError as e:
            raise BadInput(f"{path}, {place}: nested too deep") from e
        except ValueError as e:
            if len(window.text) - window.at > ENTRY or not window.more():
                raise BadInput(f"{path}, {place}: not JSON ({e})") from e

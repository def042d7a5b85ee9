"""The base of every fact: unreadable output ends in one kind of error, never in a traceback."""

import re
from abc import abstractmethod
from collections.abc import Iterable
from typing import TypeVar

from pyinfra.api import FactBase, QuoteString, StringCommand
from pyinfra.api.exceptions import FactProcessError

from cluster.command import Argv, Command

T = TypeVar("T")
# What parsing foreign text raises: msgspec's and json's errors are ValueErrors.
UNEXPECTED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    StopIteration,
    RecursionError,
)


class Fact(FactBase[T]):
    """A fact that reads a node's lines by `parse`.

    FactProcessError, with the first line of the output, if it can't be read.
    """

    @abstractmethod
    def parse(self, output: list[str]) -> T:
        """The value in these lines; any of UNEXPECTED if they hold none."""

    def process(self, output: Iterable[str]) -> T:
        lines = [line.rstrip("\r") for line in output]
        try:
            return self.parse(lines)
        except UNEXPECTED as e:
            first = next((line for line in lines if line.strip()), "")[:200]
            why = re.sub(r"\s+", " ", str(e))[:200] or type(e).__name__
            raise FactProcessError(f"unexpected output ({why}): {first}") from None


def count(word: str) -> int:
    """A number of things or bytes: digits only, as many as 64 bits hold; else ValueError."""
    if not re.fullmatch(r"[0-9]{1,19}", word):
        raise ValueError(f"not a count: {word[:40]!r}")
    return int(word)


def port(word: str) -> int:
    """A TCP port."""
    number = count(word)
    if number > 65535:
        raise ValueError(f"not a port: {number}")
    return number


def decimal(word: str) -> float:
    """A finite number that is not negative: "3.74"."""
    if not re.fullmatch(r"[0-9]{1,19}(\.[0-9]{1,19})?", word):
        raise ValueError(f"not a number: {word[:40]!r}")
    return float(word)


def join(*bits: object) -> StringCommand:
    """The parts in one string, with nothing between them."""
    return StringCommand(*bits, _separator="")


def quote(words: Argv) -> StringCommand:
    """Each word quoted.

    TypeError for a string: its letters would count as words.
    """
    if isinstance(words, str):
        raise TypeError(f"expected a list of arguments, not the string {words[:40]!r}")
    return StringCommand(*(QuoteString(word) for word in words))


def render(command: Command) -> StringCommand:
    """The command as a node's shell reads it: quoted, and under its time limit."""
    return quote(command.bounded)


def home_path(value: str) -> StringCommand:
    """A path as one word; a leading `~` is the login's home on the node."""
    if value == "~" or value.startswith("~/"):
        return join('"$HOME"', QuoteString(value[1:]) if value[1:] else "")
    return StringCommand(QuoteString(value))


def output_or_errors(command: object) -> StringCommand:
    """The command's output; on stderr if it fails, as nvidia-smi prints its errors on stdout."""
    return join(
        "out=$(",
        command,
        " 2>&1) || { s=$?; printf '%s\\n' \"$out\" >&2; exit $s; }; printf '%s\\n' \"$out\"",
    )

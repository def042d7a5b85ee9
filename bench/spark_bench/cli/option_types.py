"""Types of option values. Each refuses with what is allowed; click adds the option's name."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click import BadParameter

EXISTING_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
EXISTING_PATH = click.Path(exists=True, readable=True, path_type=Path)
ANY_PATH = click.Path(path_type=Path)

# Of JSON: levels, a number's digits, and the largest integer that its readers have room for.
_DEEPEST = 100
_LONGEST_NUMBER = 400
_LARGEST_WHOLE = 2**63 - 1


def integer(*, min: int = 1, none: bool = False, auto: bool = False) -> Callable[[Any], int | None]:
    """A whole number of `min` or more; also `none`, which is 0, where that lifts a limit, and
    `auto`, which is None."""
    also = ", or none for no limit" if none else ", or auto" if auto else ""

    def convert(value: Any) -> int | None:
        if none and value == "none":
            return 0
        if auto and value == "auto":
            return None
        try:
            number = int(value)
        except ValueError:
            number = min - 1
        if number < min:
            raise BadParameter(f"{value} is not a whole number of {min} or more{also}")
        return number

    return convert


def positive_number(or_inf: str = "") -> Callable[[Any], float]:
    """A finite number above 0; also `inf` where that means something: `or_inf`."""
    also = f", or inf for {or_inf}" if or_inf else ""

    def convert(value: Any) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not number > 0 or (math.isinf(number) and not or_inf):
            raise BadParameter(f"{value} is not a number above 0{also}")
        return number

    return convert


def non_negative_number(value: Any) -> float:
    """A finite number of 0 or more."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise BadParameter(f"{value} is not a number of 0 or more")
    return number


def json_object(value: Any) -> dict[str, Any]:
    """A JSON object, as a dict that can be sent and written down again."""
    try:
        document = json.loads(
            value, parse_constant=_number, parse_float=_number, parse_int=lambda n: _number(n, int)
        )
        json.dumps(document, ensure_ascii=False).encode()
    # The value is not repeated: there may be a key in it.
    except UnicodeEncodeError:
        raise BadParameter("it has half a character in it (a lone surrogate)") from None
    except json.JSONDecodeError as error:
        raise BadParameter(f"it is not JSON ({error}); quote it for the shell") from None
    except RecursionError:
        raise BadParameter("it is nested too deep") from None
    if not isinstance(document, dict):
        raise BadParameter("""it is not a JSON object, such as '{"top_p": 0.9}'""")
    _refuse_deep(document)
    return document


def _refuse_deep(value: Any) -> None:
    """What is written down after the run, without its secrets, must not fail then."""
    level = [value]
    for _ in range(_DEEPEST):
        lists = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        level = [item for items in lists for item in items]
    if level:
        raise BadParameter(f"it is nested too deep: {_DEEPEST} levels at most")


def _number(text: str, kind: type[int] | type[float] = float) -> float:
    """A number in JSON that any reader of it takes for the same."""
    number = kind(text) if len(text) < _LONGEST_NUMBER else math.inf
    if not abs(number) <= (_LARGEST_WHOLE if kind is int else sys.float_info.max):
        raise BadParameter(f"{text[:40]} is not a number that JSON can hold")
    return number

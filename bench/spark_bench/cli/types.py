"""Kinds of option values. Each refuses with what is allowed; click adds the option's name."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any

from click import BadParameter

# Of a number's digits, and of whole numbers that JSON's readers have room for.
_DEEPEST = 100
_LONGEST_NUMBER = 400
_LARGEST_WHOLE = 2**63 - 1


def whole(least: int = 1, *, none: bool = False, auto: bool = False) -> Callable[[Any], int | None]:
    """A whole number of `least` or more; also `none`, which is 0, where that lifts a limit, and
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
            number = least - 1
        if number < least:
            raise BadParameter(f"{value} is not a whole number of {least} or more{also}")
        return number

    return convert


def positive(or_inf: str = "") -> Callable[[Any], float]:
    """A finite number above 0; also `inf` where that means something: `or_inf`."""
    also = f", or inf for {or_inf}" if or_inf else ""

    def convert(value: Any) -> float:
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not found > 0 or (math.isinf(found) and not or_inf):
            raise BadParameter(f"{value} is not a number above 0{also}")
        return found

    return convert


def zero_or_more(value: Any) -> float:
    """A finite number, 0 too."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise BadParameter(f"{value} is not a number of 0 or more")
    return found


def json_object(value: Any) -> dict[str, Any]:
    """A JSON object, as a dict that can be sent and written down again."""
    try:
        found = json.loads(
            value, parse_constant=_number, parse_float=_number, parse_int=lambda n: _number(n, int)
        )
        json.dumps(found, ensure_ascii=False).encode()
    # The value is not repeated: there may be a key in it.
    except UnicodeEncodeError:
        raise BadParameter("it has half a character in it (a lone surrogate)") from None
    except json.JSONDecodeError as error:
        raise BadParameter(f"it is not JSON ({error}); quote it for the shell") from None
    except RecursionError:
        raise BadParameter("it is nested too deep") from None
    if not isinstance(found, dict):
        raise BadParameter("""it is not a JSON object, such as '{"top_p": 0.9}'""")
    _refuse_deep(found)
    return found


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
        raise BadParameter(f"{text[:40]} is no number that JSON can carry")
    return number

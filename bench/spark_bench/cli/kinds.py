"""Kinds of option values. Each refuses with what is allowed; click adds the option's name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from click import BadParameter


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
    """A JSON object, as a dict."""
    try:
        found = json.loads(value)
    except json.JSONDecodeError as error:
        raise BadParameter(f"{value} is not JSON ({error}); quote it for the shell") from None
    if not isinstance(found, dict):
        raise BadParameter(f"""{value} is not a JSON object, such as '{{"top_p": 0.9}}'""")
    return found

"""How values are written for people: numbers, sizes, durations, changes, tables in Markdown,
suggestions."""

from collections.abc import Iterable, Mapping, Sequence


def digits(value: float | None, unit: str = "") -> str:
    """A number with three significant digits, or whole from 100 up, with thousands separators.

    None and NaN give "-".

    >>> digits(0.01234), digits(12.345), digits(1234.5, "ms"), digits(None)
    ('0.0123', '12.3', '1,234 ms', '-')
    """
    if value is None or value != value:
        return "-"
    magnitude = abs(value)
    if magnitude >= 99.95 or value == 0:
        text = f"{value:,.0f}"
    elif magnitude >= 9.995:
        text = f"{value:.1f}"
    elif magnitude >= 0.9995:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3g}"
    return f"{text} {unit}".strip()


def brief(value: float | None, unit: str = "") -> str:
    """Like `digits`, but a whole number has no decimals: for counts and for requested values.

    >>> brief(4.0), brief(2.5, "W")
    ('4', '2.50 W')
    """
    if value is not None and value == int(value):
        return f"{value:,.0f} {unit}".strip()
    return digits(value, unit)


def plural(count: int, thing: str) -> str:
    """A count with its noun.

    >>> plural(1, "prompt"), plural(1200, "prompt")
    ('1 prompt', '1200 prompts')
    """
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "GiB": 2**30}


def byte_text(count: float, unit: str) -> str:
    """A number of bytes in a unit: "kB", "MB", "GB" or "GiB".

    >>> byte_text(64e6, "MB"), byte_text(3.204e9, "GB"), byte_text(2**36, "GiB")
    ('64 MB', '3.20 GB', '64 GiB')
    """
    return brief(count / _UNITS[unit], unit)


def duration(seconds: float | None) -> str:
    """A duration with its units: in seconds up to two minutes, then in minutes and seconds, and
    from an hour up in hours and minutes.

    >>> duration(65.4), duration(150), duration(3900), duration(7200), duration(0.5), duration(None)
    ('65 s', '2 min 30 s', '1 h 5 min', '2 h', '0.5 s', '- s')
    """
    if seconds is None:
        return "- s"
    if seconds < 1:
        return f"{f'{seconds:.1f}'.removesuffix('.0')} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def with_sign(value: float) -> str:
    """A change with its sign and about two significant digits, with thousands separators.

    >>> with_sign(-3.04), with_sign(0.123), with_sign(1234.5), with_sign(float("inf"))
    ('-3.0', '+0.12', '+1,234', '+inf')
    """
    magnitude = abs(value)
    if 1e6 <= magnitude < float("inf"):
        return f"{value:+.0e}"
    return f"{value:+,.{0 if magnitude >= 99.95 else 1 if magnitude >= 0.995 else 2}f}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table for GitHub. Cells are Markdown; columns after the first `left` are right-aligned.

    >>> print(markdown_table(["model", "tok/s"], [["a", "1.5"]]))
    | model | tok/s |
    | --- | ---: |
    | a | 1.5 |
    """
    rule = ["---" if index < left else "---:" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def did_you_mean(
    word: str, names: Iterable[str] | Mapping[str, str], most: int = 3, cutoff: float = 0.6
) -> str:
    """ " (did you mean x or y?)", with the names that resemble `word`; "" if none does.

    names: the candidates; if it is a mapping, keys are matched and their values shown
    most: names at most
    cutoff: how similar a name must be, from 0 to 1 (as in difflib)

    >>> did_you_mean("quik", ["quick", "long"])
    ' (did you mean quick?)'
    """
    from difflib import get_close_matches

    shown = names if isinstance(names, Mapping) else {name: name for name in names}
    near = dict.fromkeys(shown[name] for name in get_close_matches(word, shown, most, cutoff))
    return f" (did you mean {' or '.join(near)}?)" if near else ""

"""Figures as people read them: three digits where they vary, whole ones where they don't."""

from __future__ import annotations


def digits(value: float | None, unit: str = "") -> str:
    """Three significant digits, whole from 100 on, with thousands set apart; "-" for None.

    >>> digits(0.01234), digits(12.345), digits(1234.5, "ms"), digits(None)
    ('0.0123', '12.3', '1,234 ms', '-')
    """
    if value is None or value != value:
        return "-"
    size = abs(value)
    if size >= 99.95 or value == 0:
        text = f"{value:,.0f}"
    elif size >= 9.995:
        text = f"{value:.1f}"
    elif size >= 0.9995:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3g}"
    return f"{text} {unit}".strip()


def brief(value: float | None, unit: str = "") -> str:
    """The same, but a whole number has no zeros after it: for counts, and for what was asked for.

    >>> brief(4.0), brief(2.5, "W")
    ('4', '2.50 W')
    """
    if value is not None and value == int(value):
        return f"{value:,.0f} {unit}".strip()
    return digits(value, unit)


def counted(count: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "prompt"), counted(1200, "prompt")
    ('1 prompt', '1200 prompts')
    """
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def clock(seconds: float | None) -> str:
    """Minutes and seconds, with hours where there are any.

    >>> clock(75.4), clock(3671), clock(None)
    ('1:15', '1:01:11', '-:--')
    """
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""Changes as people read them."""

from __future__ import annotations


def signed(value: float) -> str:
    """With its sign and about two digits that vary; thousands set apart.

    >>> signed(-3.04), signed(0.123), signed(1234.5), signed(float("inf"))
    ('-3.0', '+0.12', '+1,234', '+inf')
    """
    size = abs(value)
    if 1e6 <= size < float("inf"):
        return f"{value:+.0e}"
    return f"{value:+,.{0 if size >= 99.95 else 1 if size >= 0.995 else 2}f}"

"""Wait for what a test needs, not for as long as it usually takes: machines may be busy."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], missing: str = "it never came to that") -> None:
    """Return once `condition` holds; after a minute fail with the word for what is missing."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, missing
        time.sleep(0.01)

"""What pyinfra was called with."""

import sys
from typing import Any


def called_with() -> dict[str, Any]:
    """pyinfra's own reading of its command line, which it keeps to itself."""
    from pyinfra_cli.cli import cli  # type: ignore[import-untyped] # loaded wherever a deploy runs

    context = cli.make_context("pyinfra", sys.argv[1:], resilient_parsing=True)
    return dict(context.params)


def given_data() -> dict[str, str]:
    """Name -> text of every --data."""
    return dict(item.partition("=")[::2] for item in called_with().get("data") or ())


def only_reads() -> bool:
    """Whether pyinfra ends before it executes anything."""
    params = called_with()
    ends = any(params.get(option) for option in ("dry", "debug_facts", "debug_operations"))
    # --json never asks: without -y it is a dry run.
    return ends or bool(params.get("json_output") and not params.get("yes"))

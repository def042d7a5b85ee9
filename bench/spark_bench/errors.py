"""What a user can cause, in one line and with an exit code:

ClickException
  BenchError            1  something went wrong on the way
    Unreachable         1  no server, or not one of ours
    TooManyFailures     1  more failed requests than --max-failures allows
  BadInput              2  a setting, an option, a file of the user's
"""

from __future__ import annotations

import click


class BenchError(click.ClickException):
    """Anything that ends a command; the message names the thing, the value and the cure."""

    exit_code = 1


class Unreachable(BenchError):
    """The server can't be reached, or answers what no such server answers."""


class TooManyFailures(BenchError):
    """The run is done, and too much of it failed."""


class BadInput(click.UsageError):
    """A value that can't be used: its name, the value, what is allowed, how to mend it."""

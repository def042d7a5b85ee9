"""Errors that a user can cause, each with a one-line message and an exit code:

ClickException
  BenchError            1  something went wrong on the way
    Unreachable         1  no server there, or not an LLM server
    TooManyFailures     1  more failed requests than --max-failures allows
  BadInput              2  an invalid setting, option or file
"""

import click


class BenchError(click.ClickException):
    """Ends a command; the message names the thing, the value and the cure."""

    exit_code = 1


class Unreachable(BenchError):
    """The server can't be reached, or doesn't respond as an OpenAI-compatible server does."""


class TooManyFailures(BenchError):
    """The run is done, but more of its requests failed than --max-failures allows."""


class BadInput(click.UsageError):
    """An invalid value: the message has its name, the value, what is allowed and the cure."""

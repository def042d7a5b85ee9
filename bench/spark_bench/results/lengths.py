"""Tokens asked for, against those that the server counted."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from spark_bench.record import Request


class Lengths(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well the lengths asked for were met. Sums are over good requests with a usage.

    tokenizer: what the prompts were counted with; null: nothing, their lengths are approximate
    checked: requests whose prompt length was known beforehand and told by the server
    asked_input, seen_input: their prompt tokens, in sum
    differing: those where the two differ
    largest_difference: seen minus asked, of the one where they differ most
    asked_output, seen_output: tokens to generate and generated, in sum, of good requests
    stopped_early: good requests that ended before the length asked for
    """

    tokenizer: str | None
    checked: int
    asked_input: int
    seen_input: int
    differing: int
    largest_difference: int
    asked_output: int
    seen_output: int
    stopped_early: int


def lengths(requests: Iterable[Request], tokenizer: str | None) -> Lengths:
    """Compare what was asked for with what came. tokenizer: None when lengths are approximate."""
    asked_input = seen_input = checked = differing = largest = 0
    asked_output = seen_output = early = 0
    for request in requests:
        if not request.ok:
            continue
        asked_output += request.asked_output
        seen_output += request.output_tokens
        early += request.stopped_early
        if request.asked_input is None or not request.usage:
            continue
        difference = request.prompt_tokens - request.asked_input
        checked += 1
        asked_input += request.asked_input
        seen_input += request.prompt_tokens
        differing += difference != 0
        largest = max(largest, difference, key=abs)
    return Lengths(
        tokenizer=tokenizer,
        checked=checked,
        asked_input=asked_input,
        seen_input=seen_input,
        differing=differing,
        largest_difference=largest,
        asked_output=asked_output,
        seen_output=seen_output,
        stopped_early=early,
    )

"""A breaker between a client and a model that answers as it should: it corrupts the replies in
stated ways, each of which owners report of real engines."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.probes.exchange import ProbeReply, read_answer
from cluster.probes.rounds import TOGETHER

Fields = dict[str, Any]
Change = Callable[[str, Fields], None]


@dataclass(frozen=True)
class Fault:
    """One way to corrupt all replies of a probing; what: as docs/probes.md says it."""

    name: str
    what: str
    corrupt: Callable[[Sequence[ProbeReply], random.Random], list[ProbeReply]]

    def __call__(self, replies: Sequence[ProbeReply], seed: int) -> list[ProbeReply]:
        return self.corrupt(replies, random.Random(f"{self.name} {seed}"))


def rewritten(reply: ProbeReply, change: Change) -> ProbeReply:
    """The reply with its answer's fields changed: content, reasoning, calls, finish, logprobs.

    A streamed reply's text comes back in events of one word each.
    """
    answer = read_answer(reply)
    if answer.trouble or reply.id.startswith("metrics"):
        return reply
    fields: Fields = {
        "content": answer.content,
        "reasoning": answer.reasoning,
        "calls": [(call.name, call.arguments) for call in answer.calls],
        "finish": answer.finish,
        "logprobs": [None, *answer.logprobs] if answer.logprobs else None,
    }
    change(reply.id, fields)
    calls = [
        {"index": index, "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(fields["calls"])
    ]
    if not reply.events:
        message = {
            "content": fields["content"],
            "reasoning_content": fields["reasoning"] or None,
            "tool_calls": calls or None,
        }
        choice = {"message": message, "finish_reason": fields["finish"]}
        if fields["logprobs"]:
            choice["logprobs"] = {"token_logprobs": fields["logprobs"]}
        return replace(reply, body=json.dumps({"choices": [choice]}))
    parts: list[Fields] = [
        {"delta": {name: piece}}
        for name, text in (
            ("reasoning_content", fields["reasoning"]),
            ("content", fields["content"]),
        )
        for piece in re.findall(r"\s*\S+|\s+", text)
    ]
    parts += [{"delta": {"tool_calls": [call]}} for call in calls]
    parts.append({"delta": {}, "finish_reason": fields["finish"]})
    events = [json.dumps({"choices": [part]}) for part in parts]
    return replace(reply, events=(*events, "[DONE]"))


def _each(change: Callable[[str, Fields, random.Random], None]) -> Any:
    """A corruption that changes each answer for itself."""

    def corrupt(replies: Sequence[ProbeReply], draw: random.Random) -> list[ProbeReply]:
        return [rewritten(r, lambda id, fields: change(id, fields, draw)) for r in replies]

    return corrupt


def _repeat_token(id: str, fields: Fields, draw: random.Random) -> None:
    words = re.findall(r"\S+", fields["content"]) or ["the"]
    fields["content"] = " ".join([*words[:2], *[words[min(1, len(words) - 1)]] * 60])
    fields["finish"] = "length"


def _repeat_phrase(id: str, fields: Fields, draw: random.Random) -> None:
    words = re.findall(r"\S+", fields["content"]) or ["the"]
    fields["content"] = " ".join(words[:6] * (66 // len(words[:6])))
    fields["finish"] = "length"


def _marks(id: str, fields: Fields, draw: random.Random) -> None:
    fields["content"], fields["finish"] = "!" * 64, "length"
    if fields["logprobs"]:
        fields["logprobs"] = [None, *[float("nan")] * 60]


VOCABULARY = (
    "of",
    "table",
    "under",
    "7",
    "blue",
    "13",
    "walks",
    "(",
    "never",
    "::",
    "402",
    "Sunday",
)


def _wrong_tokens(every: int) -> Any:
    """Every k-th word of the run is another, counted over all answers as an engine would."""

    def corrupt(replies: Sequence[ProbeReply], draw: random.Random) -> list[ProbeReply]:
        place = draw.randrange(every)

        def change(id: str, fields: Fields) -> None:
            nonlocal place
            pieces = re.findall(r"\s*[\u4e00-\u9fff]|\s*\w+|\s*[^\w\s]|\s+", fields["content"])
            for index, piece in enumerate(pieces):
                place += 1
                if place % every == 0:
                    space = piece[: len(piece) - len(piece.lstrip())]
                    pieces[index] = space + draw.choice(VOCABULARY)
            fields["content"] = "".join(pieces)
            calls = []
            for name, arguments in fields["calls"]:
                letters = list(arguments)
                # A word of JSON has about four letters.
                for index in range(every * 4 - 1, len(letters), every * 4):
                    letters[index] = draw.choice("aeiou0{")
                calls.append((name, "".join(letters)))
            fields["calls"] = calls
            if fields["logprobs"]:
                fields["logprobs"] = [
                    -12.0 if x is not None and draw.randrange(every) == 0 else x
                    for x in fields["logprobs"]
                ]

        return [rewritten(reply, change) for reply in replies]

    return corrupt


def _cut_characters(id: str, fields: Fields, draw: random.Random) -> None:
    """Each character of several bytes comes in two events, each decoded for itself."""
    for name in ("content", "reasoning"):
        fields[name] = re.sub(r"[^\x00-\x7f]", "\ufffd\ufffd", fields[name])


def _latin1(id: str, fields: Fields, draw: random.Random) -> None:
    """UTF-8 read as Latin-1: 'ä½\xa0' for 你."""
    for name in ("content", "reasoning"):
        fields[name] = fields[name].encode().decode("latin-1")


def _leak_turn(id: str, fields: Fields, draw: random.Random) -> None:
    fields["content"] += "<|im_end|>\n<|im_start|>user\n"


def _leak_thoughts(id: str, fields: Fields, draw: random.Random) -> None:
    fields["content"] = f"Let me see.\n</think>\n\n{fields['content']}"


def _leak_calls(id: str, fields: Fields, draw: random.Random) -> None:
    for name, arguments in fields["calls"]:
        call = f'{{"name": "{name}", "arguments": {arguments}}}'
        fields["content"] += f"<tool_call>\n{call}\n</tool_call>"
    fields["calls"] = []


def _cut_arguments(id: str, fields: Fields, draw: random.Random) -> None:
    fields["calls"] = [
        (name, arguments[: len(arguments) // 2]) for name, arguments in fields["calls"]
    ]


def _stray_piece(id: str, fields: Fields, draw: random.Random) -> None:
    """A streaming parser that sends one piece of the arguments twice."""
    if id == "tool, streamed":
        fields["calls"] = [(name, text[:8] + text[4:]) for name, text in fields["calls"]]


def _neighbor(replies: Sequence[ProbeReply], draw: random.Random) -> list[ProbeReply]:
    """Among the eight, each gets the answer of the next."""
    eight = [r for r in replies if r.id.endswith(TOGETHER) or r.id.startswith("filler")]
    ids = [reply.id for reply in eight]
    moved = {id: replace(r, id=id) for id, r in zip(ids, eight[1:] + eight[:1], strict=True)}
    return [moved.get(reply.id, reply) for reply in replies]


def _one_neighbor(replies: Sequence[ProbeReply], draw: random.Random) -> list[ProbeReply]:
    """Two of the eight have their answers exchanged."""
    eight = [r for r in replies if r.id.endswith(TOGETHER)]
    if not eight:
        return list(replies)
    one, other = draw.sample(eight, 2)
    swapped = {one.id: replace(other, id=one.id), other.id: replace(one, id=other.id)}
    return [swapped.get(reply.id, reply) for reply in replies]


def _empty(id: str, fields: Fields, draw: random.Random) -> None:
    fields["content"], fields["reasoning"], fields["calls"] = "", "", []


def _truncate(id: str, fields: Fields, draw: random.Random) -> None:
    """The first word of each answer is all that comes, and no reason for the end."""
    fields["content"] = "".join(re.findall(r"\s*\S+", fields["content"])[:1])
    fields["content"] = fields["content"][: len(fields["content"]) // 2]
    fields["calls"], fields["finish"] = [(n, a[: len(a) // 3]) for n, a in fields["calls"]], ""


def _broken_off(replies: Sequence[ProbeReply], draw: random.Random) -> list[ProbeReply]:
    half = [replace(r, events=r.events[: len(r.events) // 2], body="") for r in replies]
    return [replace(r, why="the connection was closed") for r in half]


CHINESE = "天空是蓝色的。太阳从东方升起。人们开始一天的工作。"
ENGLISH = "The city lies by a river and is known for its old walls and its markets."


def _language(id: str, fields: Fields, draw: random.Random) -> None:
    """Chinese where English was asked, and English where Chinese was."""
    fields["content"] = ENGLISH if id.startswith("script") else CHINESE


def _echo(id: str, fields: Fields, draw: random.Random) -> None:
    fields["content"] = "What is the question? Answer with the number only."


def _random_tokens(id: str, fields: Fields, draw: random.Random) -> None:
    """A model of random weights: any token may come."""
    letters = "abcdefghijklmnopqrstuvwxyz 0123456789 .,;(){}"
    fields["content"] = "".join(draw.choice(letters) for _ in range(120))
    fields["calls"], fields["finish"] = [], "length"
    if fields["logprobs"]:
        fields["logprobs"] = [None, *(draw.gauss(-11.0, 0.7) for _ in fields["logprobs"][1:])]


def _accepted(a_step: int) -> Any:
    """Each step of speculative decoding yields so many tokens, by the counters of /metrics."""

    def corrupt(replies: Sequence[ProbeReply], draw: random.Random) -> list[ProbeReply]:
        counts = {"generation_tokens_total": 100 * a_step, "spec_verify_calls_total": 100}
        lines = "".join(f"sglang:{name} {count}\n" for name, count in counts.items())
        bodies = {"metrics before": "", "metrics after": lines}
        return [replace(r, body=bodies.get(r.id, r.body)) for r in replies]

    return corrupt


FAULTS = (
    Fault("one token", "the second token repeated to the limit", _each(_repeat_token)),
    Fault("one phrase", "the first six words repeated to the limit", _each(_repeat_phrase)),
    Fault("only !", "`!` to the limit, log-probabilities NaN", _each(_marks)),
    Fault("random tokens", "random characters to the limit", _each(_random_tokens)),
    Fault("every 2nd token", "every second word is another", _wrong_tokens(2)),
    Fault("every 5th token", "every fifth word is another", _wrong_tokens(5)),
    Fault("every 20th token", "every twentieth word is another", _wrong_tokens(20)),
    Fault("cut characters", "bytes of one character decoded apart", _each(_cut_characters)),
    Fault("wrong encoding", "UTF-8 read as Latin-1", _each(_latin1)),
    Fault("end of turn", "the template's end of turn in the content", _each(_leak_turn)),
    Fault("leaked thoughts", "the end of thoughts in the content", _each(_leak_thoughts)),
    Fault("leaked calls", "tool calls as text in the content", _each(_leak_calls)),
    Fault("cut arguments", "half of each call's arguments", _each(_cut_arguments)),
    Fault("repeated piece", "a piece of streamed arguments sent twice", _each(_stray_piece)),
    Fault("neighbors", "each of the eight gets the next one's answer", _neighbor),
    Fault("two neighbors", "two of the eight have exchanged answers", _one_neighbor),
    Fault("empty", "no content and no calls, HTTP 200", _each(_empty)),
    Fault("truncated", "half of the first word, then the end", _each(_truncate)),
    Fault("broken off", "the connection closes within each answer", _broken_off),
    Fault("other language", "Chinese for English, English for Chinese", _each(_language)),
    Fault("no draft", "no draft token is accepted", _accepted(1)),
    Fault("every draft", "every draft token is accepted", _accepted(4)),
    Fault("another answer", "the same sentence to every question", _each(_echo)),
)

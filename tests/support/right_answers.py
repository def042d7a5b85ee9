"""Replies to the probes by the stub engine's rules, right ones or of one kind of nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import msgspec
from probe_replies import ALL

from cluster.probes.abilities import Abilities
from cluster.probes.exchange import CHAT, METRICS, ProbeReply, ProbeRequest, Round
from cluster.probes.questions import questions
from cluster.probes.rounds import TOGETHER, probe_rounds

FILE = Path(__file__).parents[1] / "cluster/testbed/image/stub/sglang/answers.py"
# Part of the command that sends the probes.
ASKING = "class Asker"


def stub_answers() -> Any:
    """The stub's module, which imports nothing of its package."""
    spec = spec_from_file_location("stub_answers", FILE)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUB = stub_answers()
ASKED = questions()
# As mkimage writes it into the stub's image.
STUB.KNOWN = {q.text: q.answer for q in (*ASKED.arithmetic, *ASKED.continuations, *ASKED.short)}


def reply(request: ProbeRequest, kind: str = "", thinks: bool = True) -> ProbeReply:
    """What a stub whose answers are of this kind replies.

    + thinks: it has a reasoning parser
    """
    query = dict(request.body or {})
    query["neighbours"] = request.id.endswith(TOGETHER)
    if request.path == METRICS:
        tokens, requests = (200, 10) if request.id == "metrics after" else (0, 0)
        counts = STUB.speculation(tokens, requests, 4, kind).items()
        text = "".join(f'sglang:{name}{{tp_rank="0"}} {value}\n' for name, value in counts)
        return ProbeReply(request.id, 200, text)
    if request.stream:
        chat = request.path == CHAT
        chunks = (
            STUB.chat_chunks(query, thinks, kind) if chat else STUB.completion_chunks(query, kind)
        )
        return ProbeReply(request.id, 200, events=tuple(json.dumps(chunk) for chunk in chunks))
    whole = STUB.chat(query, thinks, kind) if request.path == CHAT else STUB.completion(query, kind)
    return ProbeReply(request.id, 200, json.dumps(whole))


def replies(rounds: Iterable[Round], kind: str = "", thinks: bool = True) -> list[ProbeReply]:
    return [reply(request, kind, thinks) for part in rounds for request in part.requests]


def printed(kind: str = "") -> list[str]:
    """What a node prints of the replies to every probe that there is."""
    by_id = {
        answer.id: answer
        for abilities in (Abilities(basic=True), ALL)
        for answer in replies(probe_rounds(abilities, "any/model"), kind)
    }
    return [msgspec.json.encode(answer).decode() for answer in by_id.values()]

"""The replies of a server that answers every probe as it should, and how to change one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from cluster.probes import rounds
from cluster.probes.abilities import Abilities
from cluster.probes.exchange import CHAT, METRICS, ProbeReply, ProbeRequest
from cluster.probes.questions import questions
from cluster.probes.rounds import TOGETHER, probe_rounds

MODEL = "openai/gpt-oss-120b"
BASIC = Abilities(basic=True)
ALL = Abilities(
    tool_parser=True,
    reasoning_parser=True,
    quiet={"chat_template_kwargs": {"enable_thinking": False}},
    thinking={"chat_template_kwargs": {"enable_thinking": True}},
    silenced=True,
    speculative=True,
    ceiling=4,
)
ESSAY = "Clouds form when damp air rises and cools. The drops grow until they fall as rain."
COUNTERS = {"generation_tokens_total": 100, "num_requests_total": 10, "spec_verify_calls_total": 50}

Answers = dict[str, dict[str, Any]]


def right_answers(abilities: Abilities) -> Answers:
    """By the request's id, the fields of a right answer."""
    about = questions()
    answers: Answers = {}
    for question in (*about.arithmetic, *(about.continuations if abilities.basic else about.short)):
        for id in (question.id, question.id + TOGETHER):
            answers[id] = {"content": f" {question.answer}."}
    for id in ("essay", "essay 1", "essay 2", "filler 1", "filler 2", "filler 3"):
        answers[id] = {"content": ESSAY}
    for id in ("script, whole", "script, streamed"):
        answers[id] = {"content": "这座城市有着悠久的历史和丰富的文化。"}
    for id, _, _ in rounds.TOOL_REQUESTS:
        values = {"city": about.city, "unit": "celsius"}
        answers[id] = {"content": "", "calls": [(rounds.TOOL_NAME, json.dumps(values))]}
    answers["thought"] = {"content": "", "reasoning": "91 is 7 times 13.", "finish": "length"}
    answers["passage"] = {"content": "The", "logprobs": [None, *[-2.0] * 60]}
    return answers


def metrics(counts: Mapping[str, float]) -> str:
    """SGLang's /metrics with these counters, as its 0.5.23 writes them."""
    return "".join(
        f"# TYPE sglang:{name} counter\n"
        f'sglang:{name}{{model_name="m",engine_type="unified"}} {count}\n'
        for name, count in counts.items()
    )


def reply(request: ProbeRequest, answer: Mapping[str, Any]) -> ProbeReply:
    """An answer as SGLang writes it, whole or in events of three characters."""
    content, thought = answer.get("content", ""), answer.get("reasoning", "")
    finish = answer.get("finish", "tool_calls" if answer.get("calls") else "stop")
    calls = [
        {"index": index, "id": f"call_{index}", "type": "function",
         "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(answer.get("calls", ()))
    ]  # fmt: skip
    logprobs = {"token_logprobs": answer["logprobs"]} if "logprobs" in answer else None
    if not request.stream:
        message = {"role": "assistant", "content": content, "tool_calls": calls or None}
        message["reasoning_content"] = thought or None
        part = {"message": message} if request.path == CHAT else {"text": content}
        choice = {"index": 0, "finish_reason": finish, "logprobs": logprobs, **part}
        return ProbeReply(request.id, 200, json.dumps({"choices": [choice], "usage": {}}))
    parts: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}]
    for field, text in (("reasoning_content", thought), ("content", content)):
        for place in range(0, len(text), 3):
            piece = text[place : place + 3]
            parts.append({"delta": {field: piece}} if request.path == CHAT else {"text": piece})
    for call in calls:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        for function in ({"name": name, "arguments": ""}, {"arguments": arguments}):
            one = {"index": call["index"], "function": function}
            parts.append({"delta": {"tool_calls": [one]}})
    parts.append({"delta": {}, "finish_reason": finish})
    events = [json.dumps({"choices": [part]}) for part in parts]
    return ProbeReply(request.id, 200, events=(*events, json.dumps({"choices": []}), "[DONE]"))


def replies(
    abilities: Abilities, change: Callable[[Answers], None] = lambda answers: None
) -> list[ProbeReply]:
    """Right replies to everything that is asked; change: edits the answers before."""
    answers = right_answers(abilities)
    change(answers)
    came = []
    for one in probe_rounds(abilities, MODEL):
        for request in one.requests:
            if request.path == METRICS:
                grown = {"generation_tokens_total": 475, "num_requests_total": 35}
                grown["spec_verify_calls_total"] = 200
                counts = COUNTERS if request.id == "metrics before" else grown
                came.append(ProbeReply(request.id, 200, metrics(counts)))
            else:
                came.append(reply(request, answers[request.id]))
    return came

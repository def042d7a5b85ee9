"""What the server answers: the OpenAI shapes as SGLang fills them, with words for tokens.

A question in KNOWN gets its right answer, one in Chinese Chinese, a tool its call, a text to be
scored likely tokens. `kind` in these functions is what is wrong: one of NONSENSE; "" is nothing.
"""

import json
import re
import time
from pathlib import Path

WORDS = ["This", " is", " a", " stub:", " no", " model", " answered", "."]
THOUGHT = ["A", " stub", " thinks", "."]
CONTEXT = 32768
CHINESE = "北京是中国的首都。"
# Question -> its right answer, for those that a deploy asks (mkimage writes it).
TABLE = Path(__file__).with_name("known.json")
KNOWN = json.loads(TABLE.read_text()) if TABLE.exists() else {}
# What can be wrong with the answers.
NONSENSE = (
    "sums",  # every number is another
    "bangs",  # "!" up to the limit
    "loop",  # a phrase, over and over
    "echo",  # the question
    "broken",  # code points cut in two
    "tools",  # the call as text, in its tags
    "arguments",  # a call whose arguments are no JSON
    "thoughts",  # the tags of thoughts in the answer
    "neighbours",  # the answer to another request, where several are under way
    "unlikely",  # scored tokens are no more likely than any other
    "ceiling",  # every draft token is accepted
    "empty",  # no text
)
# Tokens that a step of speculative decoding yields; under `ceiling` they are its draft tokens.
ACCEPTED = 2.1


def words(query, thinks, kind=""):
    """(reasoning tokens, answer tokens, finish reason) for a request."""
    limit = query.get("max_completion_tokens") or query.get("max_tokens") or 128
    thought = THOUGHT if thinks and not silenced(query) else []
    words = spoken(query, kind)
    if query.get("ignore_eos") or kind in ("bangs", "loop"):
        words = [words[i % len(words)] for i in range(max(0, limit - len(thought)))]
    if kind == "thoughts":
        thought, words = [], ["<think>", *THOUGHT, "</think>", *words]
    reasoning, answer = thought[:limit], words[: max(0, limit - len(thought))]
    full = len(thought) + len(words) <= limit and not query.get("ignore_eos")
    return reasoning, answer, "stop" if full else "length"


def silenced(query):
    """Whether a request switches thinking off, by the template's argument or by its effort."""
    given = query.get("chat_template_kwargs") or {}
    off = any(value is False for value in given.values())
    return off or query.get("reasoning_effort") == "none"


def prompt_text(query):
    messages = query.get("messages") or [{}]
    return str(query.get("prompt") or messages[-1].get("content") or "")


def spoken(query, kind):
    """The tokens of the answer before any limit: words, of Chinese its characters."""
    text = prompt_text(query)
    answer = CHINESE if re.search("[\u4e00-\u9fff]", text) else KNOWN.get(text, "")
    if answer and "prompt" in query:
        answer = f" {answer}"
    if kind == "bangs":
        return ["!"]
    if kind == "loop":
        return [" the", " of", " and"]
    if kind == "echo":
        answer = text
    if kind == "sums":
        answer = re.sub(r"\d+", lambda number: str(int(number[0]) + 1), answer)
    if kind == "broken":
        answer = re.sub(r"[^\x00-\x7f]", "\ufffd", answer)
    if kind == "neighbours" and query.get("neighbours"):
        answer = "Blue"
    if kind == "empty":
        return []
    return re.findall(r"[^\x00-\x7f]|\s*[\x21-\x7f]+", answer) or WORDS


def tool_call(query, kind):
    """The call of the first tool that a request offers; None: there is none."""
    if not query.get("tools") or query.get("tool_choice") == "none" or kind in ("tools", "bangs"):
        return None
    name = query["tools"][0]["function"]["name"]
    arguments = call_arguments(query)[: -4 if kind == "arguments" else None]
    function = {"name": name, "arguments": arguments}
    return {"id": "call_0", "index": 0, "type": "function", "function": function}


def call_arguments(query):
    """The city that the question names, and its unit."""
    city = re.search(r"\bin ([A-Z]\w+)", prompt_text(query))
    return json.dumps({"city": city[1] if city else "", "unit": "celsius"})


def usage(query, reasoning, answer):
    prompt = max(1, len(str(query.get("messages") or query.get("prompt") or "").split()))
    completion = len(reasoning) + len(answer)
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": None,
        "reasoning_tokens": len(reasoning),
    }


def envelope(query, kind, **rest):
    # a wrong model name is answered and echoed, as the real one does
    head = {"id": "5f0b", "object": kind, "created": int(time.time()), "model": query.get("model")}
    return {**head, **rest}


def chat(query, thinks, kind=""):
    reasoning, answer, finish = words(query, thinks, kind)
    if call := tool_call(query, kind):
        reasoning, answer, finish = [], [], "tool_calls"
    elif query.get("tools") and kind == "tools":
        answer = [f"<tool_call>{call_arguments(query)}</tool_call>"]
    message = {
        "role": "assistant",
        "content": "".join(answer),
        "reasoning_content": "".join(reasoning) or None,
        "tool_calls": [call] if call else None,
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    counted = usage(query, reasoning, answer or [""])
    return envelope(query, "chat.completion", choices=[choice], usage=counted)


def chat_chunks(query, thinks, kind=""):
    """Role, tokens (reasoning ones carry no "content"), finish, and usage where it is asked for."""
    reasoning, answer, finish = words(query, thinks, kind)
    call = tool_call(query, kind)
    if call:
        reasoning, answer, finish = [], [], "tool_calls"
    elif query.get("tools") and kind == "tools":
        answer = ["<tool_call>", call_arguments(query), "</tool_call>"]
    yield chunk(query, {"reasoning_content": None, "role": "assistant", "content": ""})
    for token in reasoning:
        yield chunk(query, {"reasoning_content": token})
    for token in answer:
        yield chunk(query, {"reasoning_content": None, "content": token})
    if call:
        name, whole = call["function"]["name"], call["function"]["arguments"]
        for function in (
            {"name": name, "arguments": ""},
            {"arguments": whole[:9]},
            {"arguments": whole[9:]},
        ):
            yield chunk(query, {"tool_calls": [{**call, "function": function}]})
    yield chunk(query, {"reasoning_content": None}, finish)
    if (query.get("stream_options") or {}).get("include_usage"):
        counted = usage(query, reasoning, answer)
        yield envelope(query, "chat.completion.chunk", choices=[], usage=counted)


def chunk(query, delta, finish=None):
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return envelope(query, "chat.completion.chunk", choices=[{**choice, "matched_stop": None}])


def has_token(event):
    """Whether an event of a stream has a token; role, finish and usage are none."""
    for choice in event["choices"]:
        delta = choice.get("delta") or {"content": choice.get("text")}
        if any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls")):
            return True
    return False


def completion(query, kind=""):
    _, answer, finish = words(query, thinks=False, kind=kind)
    choice = {"index": 0, "text": "".join(answer), "logprobs": None, "finish_reason": finish}
    if query.get("echo") and query.get("logprobs") is not None:
        tokens = re.findall(r"\s*\S+", prompt_text(query))
        choice["text"] = prompt_text(query) + choice["text"]
        likely = -11.0 if kind == "unlikely" else -2.0
        scored = [None, *[likely] * (len(tokens) - 1), *[-0.5] * len(answer)]
        offsets = {"tokens": tokens + answer, "top_logprobs": None, "text_offset": []}
        choice["logprobs"] = {**offsets, "token_logprobs": scored}
    counted = usage(query, [], answer)
    return envelope(query, "text_completion", choices=[choice], usage=counted)


def completion_chunks(query, kind=""):
    _, answer, finish = words(query, thinks=False, kind=kind)
    for i, token in enumerate(answer, 1):
        ending = finish if i == len(answer) else None
        choice = {"index": 0, "text": token, "logprobs": None, "finish_reason": ending}
        yield envelope(query, "text_completion", choices=[choice], usage=None)
    if (query.get("stream_options") or {}).get("include_usage"):
        counted = usage(query, [], answer)
        yield envelope(query, "text_completion", choices=[], usage=counted)


def accepted(draft_tokens, kind=""):
    """Tokens that a step of speculative decoding yields."""
    return draft_tokens if kind == "ceiling" else ACCEPTED


def speculation(generated, requests, draft_tokens, kind=""):
    """SGLang's counters of speculative decoding in /metrics, after so many tokens."""
    return {
        "generation_tokens_total": generated,
        "num_requests_total": requests,
        "spec_verify_calls_total": (generated - requests) / accepted(draft_tokens, kind),
        "spec_num_draft_tokens": draft_tokens,
    }


def generate(query):
    limit = (query.get("sampling_params") or {}).get("max_new_tokens", 128)
    _, answer, finish = words({"max_tokens": limit}, thinks=False)
    counted = {"prompt_tokens": 1, "completion_tokens": len(answer), "cached_tokens": 0}
    return {"text": "".join(answer), "meta_info": {"finish_reason": {"type": finish}, **counted}}


def too_long(query):
    """SGLang's refusal of more tokens than the context holds, "" for a good request."""
    wanted = query.get("max_completion_tokens") or query.get("max_tokens") or 0
    if wanted < CONTEXT:
        return ""
    most = f"This model supports at most {CONTEXT} completion tokens."
    return f"max_completion_tokens is too large: {wanted}.{most}"

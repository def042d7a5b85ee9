"""What the server answers: the OpenAI shapes as SGLang fills them, with words for tokens."""

import time

WORDS = ["This", " is", " a", " stub:", " no", " model", " answered", "."]
THOUGHT = ["A", " stub", " thinks", "."]
CONTEXT = 32768


def words(query, thinks):
    """(reasoning tokens, answer tokens, finish reason) for a request."""
    limit = query.get("max_completion_tokens") or query.get("max_tokens") or 128
    thought = THOUGHT if thinks else []
    words = WORDS
    if query.get("ignore_eos"):
        words = [WORDS[i % len(WORDS)] for i in range(max(0, limit - len(thought)))]
    reasoning, answer = thought[:limit], words[: max(0, limit - len(thought))]
    full = len(thought) + len(WORDS) <= limit and not query.get("ignore_eos")
    return reasoning, answer, "stop" if full else "length"


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


def chat(query, thinks):
    reasoning, answer, finish = words(query, thinks)
    message = {
        "role": "assistant",
        "content": "".join(answer),
        "reasoning_content": "".join(reasoning) or None,
        "tool_calls": None,
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    counted = usage(query, reasoning, answer)
    return envelope(query, "chat.completion", choices=[choice], usage=counted)


def chat_chunks(query, thinks):
    """Role, tokens (reasoning ones carry no "content"), finish, and usage where it is asked for."""
    reasoning, answer, finish = words(query, thinks)
    yield chunk(query, {"reasoning_content": None, "role": "assistant", "content": ""})
    for token in reasoning:
        yield chunk(query, {"reasoning_content": token})
    for token in answer:
        yield chunk(query, {"reasoning_content": None, "content": token})
    yield chunk(query, {"reasoning_content": None}, finish)
    if (query.get("stream_options") or {}).get("include_usage"):
        counted = usage(query, reasoning, answer)
        yield envelope(query, "chat.completion.chunk", choices=[], usage=counted)


def chunk(query, delta, finish=None):
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return envelope(query, "chat.completion.chunk", choices=[{**choice, "matched_stop": None}])


def completion(query):
    _, answer, finish = words(query, thinks=False)
    choice = {"index": 0, "text": "".join(answer), "logprobs": None, "finish_reason": finish}
    counted = usage(query, [], answer)
    return envelope(query, "text_completion", choices=[choice], usage=counted)


def completion_chunks(query):
    _, answer, finish = words(query, thinks=False)
    for i, token in enumerate(answer, 1):
        ending = finish if i == len(answer) else None
        choice = {"index": 0, "text": token, "logprobs": None, "finish_reason": ending}
        yield envelope(query, "text_completion", choices=[choice], usage=None)
    if (query.get("stream_options") or {}).get("include_usage"):
        counted = usage(query, [], answer)
        yield envelope(query, "text_completion", choices=[], usage=counted)


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

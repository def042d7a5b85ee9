"""The models that a server lists under /v1/models, and which of them to measure."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Longest id to accept; no real one is longer.
_LONGEST = 1000
# Models that generate no text, by their published names.
_NO_TEXT = re.compile(
    r"embed|(^|[/_-])(bge|gte|e5|minilm|all-mpnet|colbert|splade)([-_:]|$)|rerank|moderation|reward"
    r"|whisper|(^|[/_-])(tts|clip|siglip|flux|sdxl|dall-e|image)([-_.:]|$)|stable-?diffusion"
    r"|text-to-|paraphrase-multilingual"
    # LiteLLM lists wildcards that stand for other models.
    r"|\*",
    re.IGNORECASE,
)
# The same, by what an entry says of itself: LM Studio's and Together's `type`, Infinity's `task`,
# LiteLLM's `mode`, Xinference's `model_type`, Cohere's `endpoints`, Ollama's and Copilot's
# `capabilities`, Lemonade's `labels`, OpenRouter's `architecture.output_modalities`.
_NO_TEXT_KIND = re.compile(r"embed|rerank|score|classif|image|audio|speech|tts|moderation", re.I)
_TEXT_KIND = re.compile(r"chat|text|complet|generat|llm|vlm|language", re.I)
_KINDS = (
    "type",
    "task",
    "mode",
    "model_type",
    "endpoints",
    "capabilities",
    "labels",
    "architecture",
)
# How llama.cpp's router and llama-swap (`status.value`) and LM Studio (`state`) say "loaded".
_LOADED = {"loaded", "ready", "running"}
# Keys for the context length of vLLM and SGLang, OpenRouter and Together, Groq, Mistral, LM Studio.
_CONTEXT = (
    *("max_model_len", "loaded_context_length", "context_length", "context_window"),
    "max_context_length",
)


@dataclass(frozen=True)
class ListedModel:
    """An entry of the list.

    owner: its owner, which names the engine ("sglang", "vllm", "llamacpp"); "" if not reported
    context: tokens that a prompt and its answer may have together; None if not reported
    loaded: it can answer without being loaded first; None if not reported
    root: what it is served from: names with the same root are one model; "" if not reported
    parent: the model that it is an adapter of; "": it is not an adapter
    text: it generates text, as far as one can tell
    """

    id: str
    owner: str = ""
    context: int | None = None
    loaded: bool | None = None
    root: str = ""
    parent: str = ""
    text: bool = True


def parse_models(body: bytes) -> tuple[ListedModel, ...]:
    """The models that an answer lists, in its order; empty if it is not such a list.

    Accepts OpenAI's {"data": [...]}, Ollama's {"models": [...]}, llama-swap's {"running": [...]}
    and a bare list (Together), of objects or names. Entries without a usable id are left out.
    """
    try:
        listing = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if isinstance(listing, dict):
        listing = listing.get("data") or listing.get("models") or listing.get("running")
    entries = listing if isinstance(listing, list) else []
    parsed = [model for entry in entries if (model := _model(entry))]
    return tuple({model.id: model for model in reversed(parsed)}.values())[::-1]


def model_candidates(listed: Sequence[ListedModel]) -> list[ListedModel]:
    """The models that a load may be meant for if the user names none, the best first.

    Only loaded ones if any is known to be, only those that generate text if any does, no adapters
    of a listed model, and one name for each model.
    """
    suitable = [model for model in listed if model.text] or list(listed)
    ids = {model.id for model in listed}
    suitable = [model for model in suitable if model.parent not in ids] or suitable
    suitable = [model for model in suitable if model.loaded] or suitable
    return list({model.root or model.id: model for model in reversed(suitable)}.values())[::-1]


def _model(entry: Any) -> ListedModel | None:
    """Read an entry; None if it has no usable id."""
    if not isinstance(entry, dict | str):
        return None
    fields = entry if isinstance(entry, dict) else {"id": entry}
    id = next((fields[key] for key in ("id", "name", "model") if fields.get(key)), "")
    if isinstance(id, int):
        id = str(id)
    if not isinstance(id, str) or not 0 < len(id) <= _LONGEST or not _sendable(id):
        return None
    lengths = map(fields.get, _CONTEXT)
    loaded = fields.get("status", fields.get("state", fields.get("loaded")))
    if isinstance(loaded, dict):
        loaded = loaded.get("value")
    if isinstance(loaded, str):
        loaded = loaded.lower() in _LOADED
    # A word, a list of words, or an object with words under some of its keys.
    values = [fields.get(key) for key in _KINDS]
    objects = [value for value in values if isinstance(value, dict)]
    values += [each.get(name) for each in objects for name in ("type", "output_modalities")]
    listed = [value if isinstance(value, list) else [value] for value in values]
    kinds = [word for words in listed for word in words if isinstance(word, str)]
    no_text = any(map(_NO_TEXT_KIND.search, kinds)) and not any(map(_TEXT_KIND.search, kinds))
    return ListedModel(
        id,
        owner=_word(fields.get("owned_by")),
        context=next((n for n in lengths if type(n) is int and 0 < n < 2**53), None),
        loaded=loaded if isinstance(loaded, bool) else None,
        root=_word(fields.get("root")),
        parent=_word(fields.get("parent")),
        text=not no_text and not _NO_TEXT.search(id),
    )


def _sendable(text: str) -> bool:
    """Whether the text can be sent: half a surrogate can't be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _sendable(value) else ""

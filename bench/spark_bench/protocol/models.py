"""What a server lists under /v1/models, and which of that is the one to measure."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# A longer id is none that anybody gave.
_LONGEST = 1000
# Models that generate no text, by the names that they are published under.
_NO_TEXT = re.compile(
    r"embed|(^|[/_-])(bge|gte|e5|minilm|all-mpnet|colbert|splade)([-_:]|$)|rerank|moderation|reward"
    r"|whisper|(^|[/_-])(tts|clip|siglip|flux|sdxl|dall-e|image)([-_.:]|$)|stable-?diffusion"
    r"|text-to-|paraphrase-multilingual"
    # A wildcard of LiteLLM's stands for others.
    r"|\*",
    re.IGNORECASE,
)
# The same by what an entry says of itself: LM Studio's and Together's `type`, Infinity's `task`,
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
# Of llama.cpp's router and llama-swap (`status.value`) and LM Studio (`state`).
_LOADED = {"loaded", "ready", "running"}
# vLLM and SGLang, OpenRouter and Together, Groq, Mistral, LM Studio.
_CONTEXT = (
    *("max_model_len", "loaded_context_length", "context_length", "context_window"),
    "max_context_length",
)


@dataclass(frozen=True)
class ListedModel:
    """An entry of the list.

    owner: who serves it ("sglang", "vllm", "llamacpp"); "" where untold
    context: tokens that a prompt and its answer may have together; None: untold
    loaded: it answers at once; None: untold
    root: what it is served from; two names of one root are one model. "" where untold
    parent: the model that it is an adapter of; "": it is none
    text: as far as one can tell, it generates text
    """

    id: str
    owner: str = ""
    context: int | None = None
    loaded: bool | None = None
    root: str = ""
    parent: str = ""
    text: bool = True


def parse_models(body: bytes) -> tuple[ListedModel, ...]:
    """The models that an answer lists, in its order; none where it is no such list.

    OpenAI's {"data": [...]}, Ollama's {"models": [...]}, llama-swap's {"running": [...]}, a bare
    list (Together), of objects or of names. What has no id that could be asked for is left out.
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
    """Those that a load can mean, without being told which: the first is the best.

    Loaded ones if any is known to be, those that generate text if any does, no adapters beside
    their model, and one name of each.
    """
    suitable = [model for model in listed if model.text] or list(listed)
    ids = {model.id for model in listed}
    suitable = [model for model in suitable if model.parent not in ids] or suitable
    suitable = [model for model in suitable if model.loaded] or suitable
    return list({model.root or model.id: model for model in reversed(suitable)}.values())[::-1]


def _model(entry: Any) -> ListedModel | None:
    """None for what has no usable id."""
    if not isinstance(entry, dict | str):
        return None
    fields = entry if isinstance(entry, dict) else {"id": entry}
    id = next((fields[key] for key in ("id", "name", "model") if fields.get(key)), "")
    if isinstance(id, int):
        id = str(id)
    if not isinstance(id, str) or not 0 < len(id) <= _LONGEST or not _sendable(id):
        return None
    return ListedModel(
        id,
        owner=_word(fields.get("owned_by")),
        context=next(filter(None, map(_context, map(fields.get, _CONTEXT))), None),
        loaded=_loaded(fields),
        root=_word(fields.get("root")),
        parent=_word(fields.get("parent")),
        text=not _NO_TEXT.search(id) and _is_text(fields),
    )


def _is_text(entry: dict[str, Any]) -> bool:
    """Whether an entry says nothing of its kind, or that of a model that generates text."""
    kinds = [kind for key in _KINDS for kind in _kinds(entry.get(key))]
    return not any(map(_NO_TEXT_KIND.search, kinds)) or any(map(_TEXT_KIND.search, kinds))


def _kinds(value: Any) -> Iterator[str]:
    """A word, or those of a list; an object has them under some of its names."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (each for each in value if isinstance(each, str))
    elif isinstance(value, dict):
        for key in ("type", "output_modalities"):
            yield from _kinds(value.get(key))


def _loaded(entry: dict[str, Any]) -> bool | None:
    status = entry.get("status", entry.get("state", entry.get("loaded")))
    if isinstance(status, dict):
        status = status.get("value")
    if isinstance(status, bool):
        return status
    return status.lower() in _LOADED if isinstance(status, str) else None


def _context(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value < 2**53 else None


def _sendable(text: str) -> bool:
    """Half a surrogate is no text that could be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _sendable(value) else ""

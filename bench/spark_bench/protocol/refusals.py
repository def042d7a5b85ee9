"""Which fields of a request a server refuses, by its error message.

OpenAI and Azure name them in `param`, FastAPI (vLLM, Mistral, NIM) in `loc`; all others in a
sentence:

    Unrecognized request argument supplied: ignore_eos  (older OpenAI, Azure)
    openai does not support parameters: ['ignore_eos'], for model=…  (LiteLLM)
    property 'ignore_eos' is unsupported  (Groq)
    Unexpected fields in the request: {'ignore_eos'}  (transformers)
    json: unknown field "ignore_eos"  (Go)
    unknown field `ignore_eos`, expected one of `model`, `messages`  (Rust)
    Unrecognized field "ignore_eos" (class …), … (2 known properties: "model", "messages")  (Java)
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

# Enough for any server's message; some send the whole request back.
_LONGEST = 16 * 1024
# What follows are the fields that a server does accept.
_TAKEN = re.compile(
    r"\bexpected (one of|fields?\b)|\b(known|recognized) (properties|fields|parameters)"
    r"|(?<!not )(?<!n't )\b(supported|allowed|valid|accepted|permitted|available)"
    r"( \w+)?( are| is)?\s*:",
    re.IGNORECASE,
)
# A field that is not accepted at all, as opposed to one of its values.
_UNKNOWN = re.compile(
    r"un(known|supported|recognized|recognised|expected)|not (supported|permitted|allowed|support"
    r"|recognized|known|accepted)|extra|deprecated|cannot find|instead|no longer|additional",
    re.IGNORECASE,
)
# Other names of max_tokens, by preference.
LENGTHS = ("max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict")


def refused_fields(body: bytes, fields: Iterable[str]) -> list[str]:
    """Those of the fields that an error's body names as the reason, in their order."""
    error = _decoded(body)
    # The fields that it is about, where it says that in a field of its own.
    places = set[str]()
    for each in _nested(error):
        if isinstance(each, dict):
            param, loc = each.get("param"), each.get("loc")
            if isinstance(param, str):
                places.update(re.split(r"[.\[\]/]", param))
            if isinstance(loc, list):
                places.update(name for name in loc if isinstance(name, str))
    if named := [field for field in fields if field in places]:
        return named
    return [field for field in fields if any(_names(field, text) for text in _sentences(error))]


def is_unknown(body: bytes) -> bool:
    """Whether an error's body speaks of fields that the server does not know, not of values."""
    return any(_UNKNOWN.search(text) for text in _sentences(_decoded(body)))


def other_length(body: bytes) -> str:
    """What the server wants in the place of max_tokens: as it says, else what OpenAI's own does."""
    texts = list(_strings(_decoded(body)))
    return next((name for name in LENGTHS if any(_names(name, t) for t in texts)), LENGTHS[0])


def _decoded(body: bytes) -> Any:
    text = body[:_LONGEST].decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _sentences(error: Any) -> Iterator[str]:
    """What it says, without the fields that it would take."""
    for text in _strings(error):
        taken = _TAKEN.search(text)
        yield text[: taken.start()] if taken else text


def _strings(error: Any) -> Iterator[str]:
    return (each for each in _nested(error) if isinstance(each, str))


def _nested(value: Any) -> Iterator[Any]:
    """A decoded value, and every value inside of it."""
    yield value
    inner = value.values() if isinstance(value, dict) else value
    for each in inner if isinstance(value, dict | list) else ():
        yield from _nested(each)


def _names(field: str, text: str) -> bool:
    """Whether a text has the field's name, as it is or in camel case, as a word of its own."""
    spelled = "|".join({re.escape(field), re.escape(field.replace("_", ""))})
    return re.search(rf"(?<!\w)({spelled})(?!\w)", text, re.IGNORECASE) is not None

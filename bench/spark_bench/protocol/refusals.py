"""Which fields of a request a server refuses, from its error message.

OpenAI and Azure name the fields in `param`, FastAPI (vLLM, Mistral, NIM) in `loc`, all others in a
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

# Most characters to read: enough for any server's message; some send the whole request back.
_LONGEST = 16 * 1024
# After such words, a message lists the fields that the server does accept.
_TAKEN = re.compile(
    r"\bexpected (one of|fields?\b)|\b(known|recognized) (properties|fields|parameters)"
    r"|(?<!not )(?<!n't )\b(supported|allowed|valid|accepted|permitted|available)"
    r"( \w+)?( are| is)?\s*:",
    re.IGNORECASE,
)
# Words that refuse a field itself, as opposed to one of its values.
_UNKNOWN = re.compile(
    r"un(known|supported|recognized|recognised|expected)|not (supported|permitted|allowed|support"
    r"|recognized|known|accepted)|extra|deprecated|cannot find|instead|no longer|additional",
    re.IGNORECASE,
)
# Other names of max_tokens, by preference.
LENGTHS = ("max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict")


def refused_fields(body: bytes, fields: Iterable[str]) -> list[str]:
    """The fields that an error's body names as its reason, in the given order."""
    error = _decoded(body)
    # The fields that the error is about, if it has `param` or `loc`.
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
    """Whether an error is about fields that the server does not know, not about values."""
    return any(_UNKNOWN.search(text) for text in _sentences(_decoded(body)))


def other_length(body: bytes) -> str:
    """The name that the server wants for max_tokens: the one it names, else OpenAI's own."""
    texts = list(_strings(_decoded(body)))
    return next((name for name in LENGTHS if any(_names(name, t) for t in texts)), LENGTHS[0])


def _decoded(body: bytes) -> Any:
    text = body[:_LONGEST].decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _sentences(error: Any) -> Iterator[str]:
    """Yield the sentences of an error, without any list of accepted fields."""
    for text in _strings(error):
        taken = _TAKEN.search(text)
        yield text[: taken.start()] if taken else text


def _strings(error: Any) -> Iterator[str]:
    return (each for each in _nested(error) if isinstance(each, str))


def _nested(value: Any) -> Iterator[Any]:
    """Yield a decoded value and every value inside it."""
    yield value
    inner = value.values() if isinstance(value, dict) else value
    for each in inner if isinstance(value, dict | list) else ():
        yield from _nested(each)


def _names(field: str, text: str) -> bool:
    """Whether a text has the field's name as a whole word, as it is or in camel case."""
    spelled = "|".join({re.escape(field), re.escape(field.replace("_", ""))})
    return re.search(rf"(?<!\w)({spelled})(?!\w)", text, re.IGNORECASE) is not None

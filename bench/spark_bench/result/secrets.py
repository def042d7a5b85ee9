"""Keeps keys and passwords out of what is written about a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

HIDDEN = "***"

# Names of settings that hold a secret. Token *counts* (max_total_tokens) are no secrets: a name
# must end in the word, in the singular.
_SECRET_NAME = re.compile(
    r"(^|[-_.])(api[-_]?key|key|token|password|passwd|secret|credentials?|authorization)$", re.I
)
# Secrets known by their looks: an HTTP authorization, Hugging Face's and OpenAI's keys.
_SECRET_VALUE = re.compile(r"\b(Bearer|Basic)\s+\S+|\b(hf_|sk-)[A-Za-z0-9_-]{8,}")


def is_secret_name(name: str) -> bool:
    """Whether a setting, an option or a query parameter of this name holds a secret.

    >>> [is_secret_name(name) for name in ("--api-key", "HF_TOKEN", "max_total_num_tokens")]
    [True, True, False]
    """
    return _SECRET_NAME.search(name) is not None


def without_credentials(url: str) -> str:
    """`url` without the user and password in it, and with secret query values hidden.

    >>> without_credentials("https://me:pw@[::1]:8000/v1?api_key=abc&x=1")
    'https://[::1]:8000/v1?api_key=***&x=1'
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL; nothing can be told apart in it
        return HIDDEN
    query = [
        (name, HIDDEN if is_secret_name(name) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode(query, safe="*/:")))


def clean_text(text: str) -> str:
    """`text` without the secrets that are known by their looks."""
    text = _SECRET_VALUE.sub(HIDDEN, text)
    return without_credentials(text) if "://" in text else text


def clean_command(words: Iterable[str]) -> tuple[str, ...]:
    """A command line without its secrets: values of secret options, keys, passwords in URLs.

    >>> clean_command(["spark-bench", "run", "--api-key", "abc", "--url=http://u:p@h/v1"])
    ('spark-bench', 'run', '--api-key', '***', '--url=http://h/v1')
    """
    return tuple(_cleaned(words))


def clean_body(value: Any) -> Any:
    """What a user added to each request's body, without its secrets.

    >>> clean_body({"top_p": 0.9, "kv_transfer": {"auth_token": "abc"}})
    {'top_p': 0.9, 'kv_transfer': {'auth_token': '***'}}
    """
    if isinstance(value, dict):
        return {k: HIDDEN if is_secret_name(k) else clean_body(v) for k, v in value.items()}
    if isinstance(value, list):
        return [clean_body(item) for item in value]
    return clean_text(value) if isinstance(value, str) else value


def _cleaned(words: Iterable[str]) -> Iterator[str]:
    hide = False
    for word in words:
        name, equals, value = word.partition("=")
        option = name.startswith("-") and is_secret_name(name)
        if hide:
            yield HIDDEN
        elif equals and name.startswith("-"):
            yield f"{name}={HIDDEN if option else clean_text(value)}"
        else:
            yield clean_text(word)
        hide = option and not equals and not hide

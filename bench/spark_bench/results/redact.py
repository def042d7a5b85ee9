"""Keep keys and passwords out of what is written about a run."""

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

HIDDEN = "***"

# Names of settings that hold a secret. Token *counts* (max_total_tokens) are not secrets: a name
# must end in one of these words, and "tokens" is not one.
_SECRET_NAME = re.compile(
    r"(^|[-_. ])((api|access|private|auth|secret)?[-_]?keys?|[a-z]*token|auth([-_]header)?|bearer"
    r"|jwt|pw|pass|passwords?|passwd|passphrase|passcode|pwd|otp|secrets?|credentials?"
    r"|(proxy[-_])?authorization|authentication|(set[-_])?cookies?|signature|sig|access[-_]key[-_]id"
    r")$",
    re.IGNORECASE,
)
# The start of a word in camel case.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Secrets recognized by their form: the value of an HTTP authorization or cookie header, to the end
# of the line; a bearer token; keys of Hugging Face, OpenAI, GitHub, GitLab, Slack, Groq, NVIDIA,
# xAI, Perplexity, Replicate, Cerebras, Fireworks, Together, Databricks, AWS and Google; a JWT; a
# PEM.
_SECRET_VALUE = re.compile(
    r"(?i:(?<=authorization:)|(?<=cookie:))\s*[^\s\"'][^\r\n\"']*"
    r"|\b(?i:bearer)\s+[^\s\"',]+|\bBasic\s+[^\s\"',]+"
    r"|\b(hf_|sk-|gh[oprsu]_|github_pat_|glpat-|xox[abeprs]-|gsk_|nvapi-|xai-|pplx-|r8_)[\w-]{8,}"
    r"|\b(csk-|fw_|tgp_v1_|dapi|ya29\.)[\w-]{20,}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{12,}|\bAIza[\w-]{20,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?"
)
# `Name: value` and `name=value` in a text, such as a header or a query.
_PAIR = re.compile(r"(?P<name>[A-Za-z][\w.-]*)(?P<between>\s*[:=]\s*)(?P<value>[^\s&;,\"'}\]]+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")


def is_secret_name(name: str) -> bool:
    """Whether the name is that of a setting, option or query parameter that holds a secret.

    >>> [is_secret_name(name) for name in ("--api-key", "HF_TOKEN", "max_total_num_tokens")]
    [True, True, False]
    >>> is_secret_name("authToken")
    True
    """
    return any(_SECRET_NAME.search(each) for each in (name, _HUMP.sub("_", name)))


def without_credentials(url: str) -> str:
    """`url` without the user and password in it, and with secret query values hidden.

    >>> without_credentials("https://me:pw@[::1]:8000/v1?api_key=abc&x=1")
    'https://[::1]:8000/v1?api_key=***&x=1'
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL, so its parts are unknown
        return HIDDEN
    query = [
        (name, HIDDEN if is_secret_name(name) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit(
        parts._replace(
            netloc=netloc,
            query=urlencode(query, safe="*/:"),
            fragment=_without_pairs(parts.fragment),
        )
    )


def clean_text(text: str) -> str:
    """`text` with secrets hidden that have a known form, or a name that says so."""
    text = _SECRET_VALUE.sub(HIDDEN, text)
    return _without_pairs(_URL.sub(lambda url: without_credentials(url[0]), text))


def _without_pairs(text: str) -> str:
    """`text` with the values hidden whose name says that they are secret."""

    def cleaned(pair: re.Match[str]) -> str:
        secret = is_secret_name(pair["name"])
        return f"{pair['name']}{pair['between']}{HIDDEN}" if secret else pair[0]

    return _PAIR.sub(cleaned, text)


def clean_command(words: Iterable[str]) -> tuple[str, ...]:
    """A command line without secrets: values of secret options, keys, passwords in URLs.

    >>> clean_command(["spark-bench", "run", "--api-key", "abc", "--url=http://u:p@h/v1"])
    ('spark-bench', 'run', '--api-key', '***', '--url=http://h/v1')
    >>> clean_command(["--extra-body", '{"auth_token": "abc"}'])
    ('--extra-body', '{"auth_token": "***"}')
    """
    cleaned = []
    hide = False
    for word in words:
        name, equals, value = word.partition("=")
        option = name.startswith("-") and is_secret_name(name)
        if hide:
            cleaned.append(HIDDEN)
        elif equals and name.startswith("-"):
            cleaned.append(f"{name}={HIDDEN if option else _clean_word(value)}")
        else:
            cleaned.append(_clean_word(word))
        hide = option and not equals and not hide
    return tuple(cleaned)


def clean_body(value: Any) -> Any:
    """What the user added to each request's body, with secrets hidden.

    >>> clean_body({"top_p": 0.9, "kv_transfer": {"auth_token": "abc"}})
    {'top_p': 0.9, 'kv_transfer': {'auth_token': '***'}}
    """
    if isinstance(value, dict):
        # {"name": "api_key", "value": "abc"} is one way to write headers.
        named = any(isinstance(v, str) and is_secret_name(v) for v in value.values())
        return {
            k: _hidden(v)
            if is_secret_name(k) or (named and k.lower() in ("value", "val"))
            else clean_body(v)
            for k, v in value.items()
        }
    if isinstance(value, list):
        # ["Authorization", "abc"] is another.
        if len(value) == 2 and isinstance(value[0], str) and is_secret_name(value[0]):
            return [value[0], _hidden(value[1])]
        return [clean_body(item) for item in value]
    return _clean_word(value) if isinstance(value, str) else value


def _hidden(value: Any) -> Any:
    """A secret value's structure, with all its contents hidden."""
    if isinstance(value, dict):
        return {k: _hidden(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return value if value is None or isinstance(value, bool) else HIDDEN


def _clean_word(text: str) -> str:
    """A text, or JSON as text, with secrets hidden."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return clean_text(text)
        cleaned = clean_body(document)
        return text if cleaned == document else json.dumps(cleaned, ensure_ascii=False)
    return clean_text(text)

"""A setting's value from what an inventory or the command line gave, or one clear refusal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from cluster.engine.foreign import counterpart
from cluster.findings import Finding, Refused, error
from cluster.settings.schema import NAMES, Settings

# Names whose value is a secret: it travels as a file (hf_token_file), never in env.
SECRET_ENV = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
# Lists that a command line gives as one string of words.
WORDS = ("extra_args", "volumes", "api_networks", "fabric_networks")
# Where the default is empty and not every string will do.
EXAMPLES = {
    "revision": "main",
    "hf_endpoint": "https://huggingface.co",
    "api_networks": ("192.168.1.0/24",),
}
_USER_IN_URL = re.compile(r"(\w+://)[^/?#\s]*@")
EnvName = r"^[A-Za-z_][A-Za-z0-9_]*\Z"


def convert(name: str, value: Any) -> Any:
    """A setting's value in its type, from what an inventory or `--data` gave."""
    if name not in NAMES:
        raise Refused(_unknown(name))
    if isinstance(value, str) and (user := _USER_IN_URL.match(value)):
        scheme, rest = user[1], value[user.end() :]
        raise Refused(
            error(
                f"{name} = '{scheme}***@{rest}' is not allowed: it must be a URL without user and "
                "password, which would be visible in arguments and messages",
                cure=f"--data {name}={scheme}{rest}; the hub's token is read from HF_TOKEN or "
                "hf_token_file",
            )
        )
    if value is None and "auto" in _allowed(name):
        value = "auto"
    try:
        words = name in WORDS and isinstance(value, str)
        return _sayable(
            msgspec.convert(shlex.split(value) if words else value, _types()[name], strict=True)
        )
    # Not ValidationError alone, which is one: shlex on a quote without its end, and _sayable.
    except ValueError:
        raise Refused(
            error(
                f"{name} = {value!r} is not allowed: it must be {_allowed(name)}",
                cure=f"--data {name}={_example(name)}{_quoting(name, value)}",
            )
        ) from None


def _sayable(value: Any) -> Any:
    """The value, if a command line and JSON can carry it: no NUL, no half of a character."""
    for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
        if "\0" in text:
            raise ValueError(text)
        text.encode()
    return value


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean a or b?", or "" where nothing is near."""
    near = get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _unknown(name: str) -> Finding:
    foreign = counterpart(f"--{name.replace('_', '-')}") or counterpart(f"--{name}")
    if foreign:
        engine, advice = foreign
        return error(f"{name} is not a setting, but an option of {engine}", cure=advice)
    return error(
        f"{name} is not a setting{nearest(name, NAMES)}",
        cure="every setting stands in inventories/group_data/all.py",
    )


@cache
def _types() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


@cache
def _default(name: str) -> Any:
    return getattr(Settings(), name)


def _example(name: str) -> str:
    value = EXAMPLES.get(name, _default(name))
    if isinstance(value, tuple):
        return shlex.join(value) if len(value) < 2 else f"'{shlex.join(value)}'"
    return (str(value).lower() if isinstance(value, bool) else str(value)) or '"..."'


def _allowed(name: str) -> str:
    """The type in words: "an integer from 1 to 65535", "one of running, stopped, absent"."""
    hint = _types()[name]
    parts = getattr(hint, "__args__", ()) if _is_union(hint) else (hint,)
    return " or ".join(_words(part) for part in parts)


def _is_union(hint: Any) -> bool:
    return type(hint).__name__ in ("UnionType", "_UnionGenericAlias")


_PLAIN = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "dict": "a mapping of names to strings",
    "tuple": "a list of strings",
}


def _words(hint: Any) -> str:
    if getattr(hint, "__metadata__", None):
        return _PLAIN[hint.__origin__.__name__] + _range(hint.__metadata__[0])
    if type(hint).__name__ == "_LiteralGenericAlias":
        choices = ", ".join(hint.__args__)
        return f"one of {choices}" if len(hint.__args__) > 1 else choices
    plain = getattr(hint, "__origin__", hint)
    if plain is tuple and getattr(hint.__args__[0], "__metadata__", None):
        return f"a list of {hint.__args__[0].__metadata__[0].description}"
    return _PLAIN[plain.__name__]


def _range(meta: Meta) -> str:
    if meta.description:
        return f" {meta.description}"
    if meta.gt is not None:
        return f" between {meta.gt} and {meta.lt}"
    return f" from {meta.ge} to {meta.le}" if meta.le is not None else f" of at least {meta.ge}"


def _quoting(name: str, value: Any) -> str:
    """The command line reads 1.10 as a number: say how to keep it a string."""
    wants_string = _types()[name] is str or "string" in _allowed(name)
    if wants_string and isinstance(value, int | float):
        return f" (a value that looks like a number needs quotes: --data '{name}=\"{value}\"')"
    return ""


def merged_env(layers: Iterable[Any]) -> dict[str, str]:
    """All layers' `env` merged, weakest first; Refused where one is no mapping of names to strings,
    or holds a secret."""
    merged: dict[str, str] = {}
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise Refused(_env_error(layer))
        for name, value in layer.items():
            merged[name] = _env_value(name, value)
    return merged


def _env_value(name: Any, value: Any) -> str:
    if name in SECRET_ENV:
        raise Refused(
            error(
                f"env must not hold {name}: its value would show in `docker inspect`",
                cure="set it in your shell's environment, or name a 0600 file in hf_token_file",
            )
        )
    try:
        msgspec.convert(name, Annotated[str, Meta(pattern=EnvName)])
    except msgspec.ValidationError:
        raise Refused(_env_error({name: value})) from None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(_env_error({name: value}))
    try:
        return str(_sayable(str(value)))
    except ValueError:
        raise Refused(_env_error({name: value})) from None


def _env_error(value: Any) -> Finding:
    return error(
        f"env = {value!r} is not allowed: it must be a mapping of variable names to strings",
        cure="""--data 'env={"NAME": "value"}'""",
    )

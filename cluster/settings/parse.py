"""A setting's value, from an inventory or the command line; or one clear refusal."""

import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from cluster.engine.foreign import counterpart
from cluster.findings import Finding, Refused, did_you_mean, error
from cluster.settings.schema import NAMES, Settings

# Names whose value is a secret: it travels as a file (hf_token_file), never in env.
SECRET_ENV = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
# Lists that a command line gives as one string, split as a shell would.
LISTS = ("extra_args", "volumes", "api_networks", "monitoring_networks", "fabric_networks")
# Where the default is empty and not every string will do.
EXAMPLES = {
    "revision": "main",
    "hf_endpoint": "https://huggingface.co",
    "api_networks": ("192.168.1.0/24",),
    "monitoring_networks": ("192.168.1.0/24",),
}
_USER_IN_URL = re.compile(r"(\w+://)[^/?#\s]*@")
_ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*\Z"
_PLAIN = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a mapping of variable names to strings",
    tuple: "a list of strings",
}


def convert(name: str, value: Any) -> Any:
    """A setting's value in its type, from what an inventory or `--data` gave.

    Raises Refused with the setting, the value, what is allowed, and a value that is.
    """
    if name not in NAMES:
        foreign = counterpart(f"--{name.replace('_', '-')}") or counterpart(f"--{name}")
        if foreign:
            engine, advice = foreign
            what = f"{name} is not a setting, but an option of {engine}"
            raise Refused(error(what, cure=advice, key="no-such-setting"))
        what = f"{name} is not a setting{did_you_mean(name, NAMES, cutoff=0.5)}"
        raise Refused(
            error(what, cure="docs/settings.md lists every setting", key="no-such-setting")
        )
    if isinstance(value, str) and (user := _USER_IN_URL.match(value)):
        scheme, rest = user[1], value[user.end() :]
        raise Refused(
            error(
                f"{name} = '{scheme}***@{rest}' is not allowed: it must be a URL without user and "
                "password, which would be visible in arguments and messages",
                cure=f"--data {name}={scheme}{rest}; the hub's token is read from HF_TOKEN or "
                "hf_token_file",
                key="setting-invalid",
            )
        )
    if value is None and "auto" in allowed_values(name):
        value = "auto"
    why = f"it must be {allowed_values(name)}"
    items = value
    try:
        if name in LISTS and isinstance(value, str):
            try:
                items = shlex.split(value)
            except ValueError:
                why = "it has a quote or a backslash without its counterpart"
                raise
        return _encodable(msgspec.convert(items, _types()[name], strict=True))
    # Not ValidationError alone, which is one: shlex.split and _encodable raise it too.
    except ValueError:
        raise Refused(
            error(
                f"{name} = {value!r} is not allowed: {why}",
                cure=_valid_setting(name, value),
                key="setting-invalid",
            )
        ) from None


def _encodable(value: Any) -> Any:
    """The value, if a command line and JSON can carry it: no NUL, no lone surrogate."""
    for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
        if "\0" in text:
            raise ValueError(text)
        text.encode()
    return value


@cache
def _types() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


def _valid_setting(name: str, value: Any) -> str:
    """A value that is allowed, as it is typed on the command line; and how the one that was given
    stays a string there, where 1.10 is read as a number."""
    example = EXAMPLES.get(name, getattr(Settings(), name))
    if isinstance(example, tuple):
        typed = shlex.join(example) if len(example) < 2 else f"'{shlex.join(example)}'"
    else:
        typed = (str(example).lower() if isinstance(example, bool) else str(example)) or '"..."'
    plain = {get_args(h)[0] if get_origin(h) is Annotated else h for h in _alternatives(name)}
    if (str in plain or name == "extra_args") and isinstance(value, int | float):
        typed += f" (a value that looks like a number needs quotes: --data '{name}=\"{value}\"')"
    return f"--data {name}={typed}"


def allowed_values(name: str) -> str:
    """What a setting may be: "an integer from 1 to 65535", "one of running, stopped, absent"."""
    return " or ".join(map(_described, _alternatives(name)))


def _alternatives(name: str) -> tuple[Any, ...]:
    hint = _types()[name]
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _described(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        plain, meta = get_args(hint)
        if meta.description:
            return str(meta.description)
        if meta.gt is not None:
            return f"{_PLAIN[plain]} between {meta.gt} and {meta.lt}"
        limits = f"from {meta.ge} to {meta.le}" if meta.le else f"of at least {meta.ge}"
        return f"{_PLAIN[plain]} {limits}"
    if get_origin(hint) is Literal:
        choices = ", ".join(get_args(hint))
        return f"one of {choices}" if "," in choices else choices
    if get_origin(hint) is tuple and get_origin(get_args(hint)[0]) is Annotated:
        return f"a list of {get_args(get_args(hint)[0])[1].description}"
    return _PLAIN[get_origin(hint) or hint]


def merged_env(layers: Iterable[Any]) -> dict[str, str]:
    """All layers' `env` merged, weakest first.

    Raises Refused where one is not a mapping of names to strings, or holds a secret.
    """
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
                key="secret-in-env",
            )
        )
    try:
        msgspec.convert(name, Annotated[str, Meta(pattern=_ENV_NAME)])
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(value)
        return str(_encodable(str(value)))
    except ValueError:
        raise Refused(_env_error({name: value})) from None


def _env_error(value: Any) -> Finding:
    return error(
        f"env = {value!r} is not allowed: it must be a mapping of variable names to strings",
        cure="""--data 'env={"NAME": "value"}'""",
        key="setting-invalid",
    )

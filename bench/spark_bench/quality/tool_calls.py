"""Scenarios with tools, and whether an answer's calls are the right ones, by schema and value."""

import json
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.quality.items import ExpectedCall, ItemMessage, QualityItem
from spark_bench.results.quality_schema import AnsweredCall

SCENARIOS = Path(__file__).with_name("scenarios.toml")
SYSTEM = (
    "You are an assistant with tools. Call a tool, or several at once, where the user's request "
    "needs them; answer without a tool where it does not. Use the values that the user gives, as "
    "they are."
)
NO_CALL = "no call"
# How calls look that the server did not parse: Hermes and Qwen, Mistral, Llama, DeepSeek, Kimi,
# GLM, harmony, XML.
RAW_CALLS = (
    *("<tool_call", "[TOOL_CALLS]", "<|python_tag|>", "<function=", "<\uff5ctool\u2581call"),
    *("<|tool_call", "<arg_key>", "<|channel|>", "<invoke", "<function_call"),
)
# A call as JSON in the text.
_NAMED = re.compile(r"\"name\"\s*:\s*\"(\w{1,64})\"")
# JSON Schema's types that our tools have, as Python reads them.
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


class ToolSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool: its description and the JSON Schema of its arguments."""

    description: str
    parameters: dict[str, Any]


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """One scenario: a request, with which tools, and the calls that are right, in any order."""

    id: str
    group: str
    tools: list[str]
    ask: str
    calls: list[ExpectedCall]


class ScenarioFile(Struct, frozen=True, forbid_unknown_fields=True):
    """scenarios.toml."""

    tools: dict[str, ToolSpec]
    scenarios: list[Scenario]


def tool_items() -> list[QualityItem]:
    """The scenarios as items, groups in turn, so that any first part has all of them."""
    file = msgspec.convert(tomllib.loads(SCENARIOS.read_text()), ScenarioFile)
    groups: dict[str, list[Scenario]] = {}
    for scenario in file.scenarios:
        groups.setdefault(scenario.group, []).append(scenario)
    longest = max(map(len, groups.values()))
    ordered = [g[n] for n in range(longest) for g in groups.values() if n < len(g)]
    return [
        QualityItem(
            id=f"tools-{scenario.id}",
            group=scenario.group,
            messages=(ItemMessage("system", SYSTEM), ItemMessage("user", scenario.ask)),
            grader="calls",
            expected=[msgspec.to_builtins(call) for call in scenario.calls],
            fields={
                "tools": [
                    {"type": "function", "function": {"name": name, **as_fields(file.tools[name])}}
                    for name in scenario.tools
                ]
            },
        )
        for scenario in ordered
    ]


def as_fields(tool: ToolSpec) -> dict[str, Any]:
    """A tool's description and parameters, as requests have them."""
    return {
        "description": tool.description,
        "parameters": {**tool.parameters, "additionalProperties": False},
    }


def grade_calls(
    expected: Any, tools: Sequence[Mapping[str, Any]], text: str, calls: Sequence[AnsweredCall]
) -> tuple[str | None, bool]:
    """What was read from an answer's calls, as in `Graded`, and whether they are the right ones.

    expected: objects as ExpectedCall has them, in any order
    tools: as the request has them
    """
    schemas = {
        tool["function"]["name"]: tool["function"].get("parameters", {})
        for tool in tools
        if isinstance(tool.get("function"), dict)
    }
    if not calls:
        named = {match[1] for match in _NAMED.finditer(text)} & schemas.keys()
        if not text.strip() or named or any(mark in text for mark in RAW_CALLS):
            return None, False
        return NO_CALL, not expected
    read: list[tuple[str, Any]] = []
    for call in calls:
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError):
            return None, False
        if not isinstance(arguments, dict):
            return None, False
        read.append((call.name, arguments))
    shown = json.dumps(
        [{"name": name, "arguments": arguments} for name, arguments in read], ensure_ascii=False
    )
    valid = all(
        name in schemas and not any(schema_errors(arguments, schemas[name]))
        for name, arguments in read
    )
    return shown, valid and _pair_up(list(expected), read, schemas)


def _pair_up(
    expected: list[Mapping[str, Any]], read: list[tuple[str, Any]], schemas: Mapping[str, Any]
) -> bool:
    """Whether each call is one of those expected, and none is left over on either side."""
    left = list(expected)
    for name, arguments in read:
        for one in left:
            wanted = one.get("arguments", {})
            if one["name"] == name and same_value(wanted, arguments, schemas[name]):
                left.remove(one)
                break
        else:
            return False
    return not left


def schema_errors(value: Any, schema: Mapping[str, Any], place: str = "$") -> Iterator[str]:
    """Yield where a value breaks a schema, of the part of JSON Schema that our tools have."""
    kind = schema.get("type")
    types = _TYPES.get(kind or "", (object,))
    whole = isinstance(value, float) and value.is_integer() and kind == "integer"
    if not (isinstance(value, types) or whole) or (
        isinstance(value, bool) and kind in ("integer", "number")
    ):
        yield f"{place} is not of type {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place} is not one of {schema['enum']}"
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        missing = [key for key in schema.get("required", []) if key not in value]
        yield from (f"{place}.{key} is missing" for key in missing)
        for key, each in value.items():
            if key in properties:
                yield from schema_errors(each, properties[key], f"{place}.{key}")
            elif schema.get("additionalProperties") is False:
                yield f"{place}.{key} is unknown"
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from schema_errors(each, schema["items"], f"{place}[{index}]")


def same_value(wanted: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is the wanted one.

    Texts are compared without case and outer blanks. A key that is left out, here or there, has
    the schema's default.
    """
    if isinstance(wanted, dict) and wanted.keys() == {"any"}:
        return any(same_value(one, value, schema) for one in wanted["any"])
    if isinstance(wanted, dict) and isinstance(value, dict):
        properties = schema.get("properties", {})
        defaults = {key: each["default"] for key, each in properties.items() if "default" in each}
        both = {**defaults, **value}
        return all(
            key in both and same_value(each, both[key], properties.get(key, {}))
            for key, each in ({**defaults, **wanted}).items()
        ) and not (value.keys() - wanted.keys() - defaults.keys())
    if isinstance(wanted, list) and isinstance(value, list):
        items = schema.get("items", {})
        return len(wanted) == len(value) and all(
            same_value(one, other, items) for one, other in zip(wanted, value, strict=True)
        )
    if isinstance(wanted, str) and isinstance(value, str):
        return _plain(wanted) == _plain(value)
    return isinstance(wanted, bool) == isinstance(value, bool) and bool(wanted == value)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().casefold()

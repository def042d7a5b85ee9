"""The scenarios with tools, and which calls are right."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, strategies as st
from spark_bench.quality.grading import grade
from spark_bench.quality.items import QualityItem
from spark_bench.quality.tool_calls import NO_CALL, same_value, schema_errors, tool_items
from spark_bench.results.quality_schema import AnsweredCall

ITEMS = tool_items()
BY_ID = {item.id.removeprefix("tools-"): item for item in ITEMS}
GROUPS = {
    "one tool",
    "several tools",
    "no tool",
    "nested arguments",
    "unicode",
    "parallel calls",
}


def schemas(item: QualityItem) -> dict[str, Any]:
    return {t["function"]["name"]: t["function"]["parameters"] for t in item.fields["tools"]}


def plain(value: Any) -> Any:
    """A wanted value with the first of several that are right."""
    if isinstance(value, dict):
        return (
            plain(value["any"][0])
            if value.keys() == {"any"}
            else {k: plain(v) for k, v in value.items()}
        )
    return [plain(each) for each in value] if isinstance(value, list) else value


def calls(item: QualityItem, **changes: Any) -> list[AnsweredCall]:
    """The right calls; changes: of the first one's arguments."""
    wanted = [(call["name"], plain(call["arguments"])) for call in item.expected]
    return [
        AnsweredCall(name=name, arguments=json.dumps(args | (changes if not i else {})))
        for i, (name, args) in enumerate(wanted)
    ]


def test_there_are_enough_in_every_group() -> None:
    assert len(ITEMS) >= 40 and len({item.id for item in ITEMS}) == len(ITEMS)
    assert {item.group for item in ITEMS} == GROUPS
    assert all(sum(i.group == group for i in ITEMS) >= 7 for group in GROUPS)
    assert {item.group for item in ITEMS[:6]} == GROUPS


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_what_is_expected_is_right(item: QualityItem) -> None:
    """By a validator that is not ours, too; and another scenario's calls are wrong."""
    for call in calls(item):
        jsonschema.validate(json.loads(call.arguments), schemas(item)[call.name])
    text = "" if item.expected else "That needs no tool."
    assert grade(item, text, calls(item)).right
    assert grade(item, "Right away!" if item.expected else text, calls(item)[::-1]).right
    other = ITEMS[ITEMS.index(item) - 1]
    assert not grade(item, "", calls(other)).right
    assert not grade(item, "", ()).right
    assert grade(item, "", ()).read is None


@pytest.mark.parametrize("item", [i for i in ITEMS if i.expected], ids=lambda item: item.id)
def test_every_broken_call_is_wrong(item: QualityItem) -> None:
    good = calls(item)
    assert not grade(item, "I can't do that.", ()).right
    assert grade(item, "I can't do that.", ()).read == NO_CALL
    assert not grade(item, "", [*good, good[0]]).right
    assert not grade(item, "", good[1:]).right
    assert not grade(item, "", calls(item, surprise=1)).right
    first = json.loads(good[0].arguments)
    for key in first:
        for value in (None, "something else", 987_654, ["x"], {"x": 1}):
            assert not grade(item, "", calls(item, **{key: value})).right, (key, value)
    cut = AnsweredCall(name=good[0].name, arguments=good[0].arguments[:-1])
    assert grade(item, "", [cut, *good[1:]]).read is None
    wrong = AnsweredCall(name="unheard_of", arguments=good[0].arguments)
    assert not grade(item, "", [wrong, *good[1:]]).right


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Lisbon"}}\n</tool_call>',
        '[TOOL_CALLS][{"name": "get_weather"}]',
        '<function=get_weather>{"city": "Lisbon"}</function>',
        '<|python_tag|>get_weather(city="Lisbon")',
        '```json\n{"name": "get_weather", "arguments": {"city": "Lisbon"}}\n```',
    ],
)
def test_calls_in_the_text_are_unreadable(text: str) -> None:
    assert grade(BY_ID["weather"], text, ()).read is None
    assert not grade(BY_ID["none-thanks"], text, ()).right


def test_a_default_may_be_given_or_left_out() -> None:
    item = BY_ID["weather"]
    assert grade(item, "", calls(item, unit="celsius", days=1)).right
    assert not grade(item, "", calls(item, unit="fahrenheit")).right
    off = BY_ID["lights-off"]
    for changes in ({}, {"brightness": 0}, {"brightness": 100}):
        assert grade(off, "", calls(off, **changes)).right
    assert not grade(off, "", calls(off, on=True)).right
    assert not grade(off, "", calls(off, on=1)).right


def test_case_and_blanks_of_texts_do_not_matter() -> None:
    item = BY_ID["weather"]
    assert grade(item, "", calls(item, city=" LISBON ")).right
    assert not grade(item, "", calls(item, city="Lisbon, Portugal")).right


@pytest.mark.parametrize(
    "arguments", ["", "null", "[]", '"x"', "{", "{'city': 'Lisbon'}", "[" * 9999]
)
def test_arguments_that_are_no_object(arguments: str) -> None:
    graded = grade(BY_ID["weather"], "", [AnsweredCall(name="get_weather", arguments=arguments)])
    assert not graded.right


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["city", "unit", "days", "customer", "items", "gift", "sku"]), inner
        )
    ),
    max_leaves=8,
)


@given(VALUES, st.sampled_from(["weather", "order-one", "query-one", "event-people"]))
def test_our_part_of_json_schema_is_theirs(value: Any, name: str) -> None:
    for schema in schemas(BY_ID[name]).values():
        theirs = jsonschema.Draft202012Validator(schema).is_valid(value)
        assert theirs == (not list(schema_errors(value, schema)))


@given(VALUES)
def test_a_value_is_itself(value: Any) -> None:
    assert same_value(value, value, {})

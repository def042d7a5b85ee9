from __future__ import annotations

import json
from typing import Any

import jsonschema
import msgspec
import pytest
from result_samples import a_request, a_result
from spark_bench.results.codec import START_NS, encode_result, to_row
from spark_bench.results.json_schema import (
    FILE,
    QUALITY_FILE,
    quality_schema,
    schema,
    schema_text,
)

SCHEMA = json.loads(FILE.read_bytes())


def errors(document: Any, schema: Any = SCHEMA) -> list[str]:
    """What a validator that knows nothing of our types says."""
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(document)]


def a_document() -> Any:
    return json.loads(encode_result(a_result()))


def test_the_schema_file_matches_the_types() -> None:
    cure = "write it anew: python -m spark_bench.results.json_schema"
    assert FILE.read_text() == schema_text(schema()), cure
    assert QUALITY_FILE.read_text() == schema_text(quality_schema()), cure


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_written_result_is_valid() -> None:
    assert errors(a_document()) == []


def test_a_result_with_nothing_optional_is_valid() -> None:
    bare = msgspec.structs.replace(
        a_result(), distributions=None, stalls=None, requests_file=None, repeats=(), intervals={}
    )
    assert errors(json.loads(encode_result(bare))) == []


def test_a_line_of_the_requests_is_valid() -> None:
    line = json.loads(msgspec.json.encode(to_row(a_request(), START_NS)))
    row = {"$ref": "#/$defs/Row", "$defs": SCHEMA["$defs"]}
    assert errors(line, row) == []
    assert errors({**line, "token_gaps_ns": [1.5]}, row)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param("schema_version", 2, "2 is not one of [1]", id="version"),
        pytest.param("kind", "x", "'x' is not one of ['spark-bench run']", id="kind"),
        pytest.param("status", "done", "'done' is not one of", id="status"),
        pytest.param("summary.completed", "9", "'9' is not of type 'integer'", id="type"),
        pytest.param("summary.more", 1, "'more' was unexpected", id="unknown"),
        pytest.param("summary.completed", ..., "'completed' is a required", id="missing"),
    ],
)
def test_documents_refused_on_reading_are_invalid(path: str, value: object, expected: str) -> None:
    document = a_document()
    *way, last = path.split(".")
    at = document
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    assert any(expected in error for error in errors(document)), errors(document)

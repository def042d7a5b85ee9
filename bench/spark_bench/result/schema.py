"""The result file's JSON Schema (2020-12), made from its types.

After a change of the types: `python -m spark_bench.result.schema` writes schema.json anew.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from spark_bench.result.requests import Row
from spark_bench.result.types import Result

FILE = Path(__file__).with_name("schema.json")


def schema() -> dict[str, Any]:
    """The schema of a result; `#/$defs/Row` is that of a line of its requests' file."""
    (result, _), definitions = msgspec.json.schema_components(
        (Result, Row), ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A result of spark-bench run",
        **result,
        "$defs": {name: _described(kind) for name, kind in definitions.items()},
    }


def _described(kind: dict[str, Any]) -> dict[str, Any]:
    """With the docstring as `inspect` shows it, not as it stands in the source."""
    return {**kind, "description": cleandoc(kind["description"])} if "description" in kind else kind


def text() -> str:
    """The contents of schema.json."""
    return json.dumps(schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())

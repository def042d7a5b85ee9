"""The result file's JSON Schema (2020-12), generated from its types.

After changing the types, run `python -m spark_bench.results.json_schema` to rewrite schema.json.
"""

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from spark_bench.results.codec import Row
from spark_bench.results.schema import Config, Result

FILE = Path(__file__).with_name("schema.json")


def schema() -> dict[str, Any]:
    """The schema of a result; `#/$defs/Row` is the schema of a line of its requests file.

    It is as strict as the reader: every key is required but those that are left out where they say
    nothing, and no other is allowed.
    """
    (result, _), definitions = msgspec.json.schema_components(
        (Result, Row), ref_template="#/$defs/{name}"
    )
    optional = {each.name for each in structs.fields(Config) if each.default is msgspec.UNSET}
    for name, kind in definitions.items():
        if "properties" in kind:
            left_out = optional if name == Config.__name__ else ()
            required = [key for key in kind["properties"] if key not in left_out]
            kind |= {"required": required, "additionalProperties": False}
        if "description" in kind:
            kind["description"] = cleandoc(kind["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A result of spark-bench run",
        **result,
        "$defs": definitions,
    }


def schema_text() -> str:
    """The contents of schema.json."""
    return json.dumps(schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text())

"""The result files' JSON Schemas (2020-12), generated from their types.

After changing the types, run `python -m spark_bench.results.json_schema` to rewrite schema.json
and quality.schema.json.
"""

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from spark_bench.client.audit import Audit
from spark_bench.results.codec import Row
from spark_bench.results.config_schema import RunConfig
from spark_bench.results.quality_schema import AnsweredItem, Matched, QualityResult
from spark_bench.results.schema import Repeat, Result

FILE = Path(__file__).with_name("schema.json")
# Types with keys that a file leaves out where they say nothing.
LEAVING_OUT: tuple[type[msgspec.Struct], ...] = (
    *(Audit, RunConfig, Repeat, Result, Row),
    *(AnsweredItem, Matched),
)
QUALITY_FILE = FILE.with_name("quality.schema.json")


def schema() -> dict[str, Any]:
    """The schema of a result; `#/$defs/Row` is the schema of a line of its requests file."""
    return _schema_of("A result of spark-bench run", Result, Row)


def quality_schema() -> dict[str, Any]:
    """The schema of a result of `spark-bench quality`."""
    return _schema_of("A result of spark-bench quality", QualityResult)


def _schema_of(title: str, *types: type) -> dict[str, Any]:
    """The schema of the first type, with definitions of all.

    It is as strict as the reader: every key is required but those that are left out where they say
    nothing, and no other is allowed.
    """
    (result, *_), definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    optional = {
        kind.__name__: {each.name for each in structs.fields(kind) if each.default is msgspec.UNSET}
        for kind in LEAVING_OUT
    }
    for name, kind in definitions.items():
        if "properties" in kind:
            left_out = optional.get(name, ())
            required = [key for key in kind["properties"] if key not in left_out]
            kind |= {"required": required, "additionalProperties": False}
        if "description" in kind:
            kind["description"] = cleandoc(kind["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **result,
        "$defs": definitions,
    }


def schema_text(document: dict[str, Any]) -> str:
    """The contents of a schema's file."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(schema()))
    QUALITY_FILE.write_text(schema_text(quality_schema()))

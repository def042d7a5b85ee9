"""What an engine replies where it serves."""

from __future__ import annotations

import json
from typing import Any

MODEL = "openai/gpt-oss-120b"


NODES = ("spark-1", "spark-2")


def body(**message: Any) -> str:
    return json.dumps(
        {"choices": [{"message": message}], "usage": {"completion_tokens": 16}, "model": MODEL}
    )

"""Measure an OpenAI-compatible LLM server, from what the kernel saw."""

from pathlib import Path

__version__ = "0.1.0"

# Where a project is looked for unless it is named.
PROJECT, INVENTORY = Path("."), Path("inventories/spark.py")

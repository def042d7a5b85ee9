"""Measure an OpenAI-compatible LLM server, by the kernel's time stamps."""

from pathlib import Path

__version__ = "0.1.0"

# The project and its inventory, unless others are named.
PROJECT, INVENTORY = Path("."), Path("inventories/spark.py")

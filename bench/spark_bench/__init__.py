"""Measure an OpenAI-compatible LLM server, from what the kernel saw."""

from __future__ import annotations

__version__ = "0.1.0"

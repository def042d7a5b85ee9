"""The registry and the prompts."""

"""The server's side of a run: its own metrics, and the power its nodes draw."""

"""The models that are known, and whether one fits the nodes."""

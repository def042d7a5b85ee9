"""Nodes: what was read on them, how they are to be set up, and what prevents it."""

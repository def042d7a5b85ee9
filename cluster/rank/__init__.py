"""One rank: its spec, which is also its label, and how each runtime runs it."""

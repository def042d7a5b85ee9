"""From requests to figures."""

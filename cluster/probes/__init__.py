"""Whether what serves talks sense: what to ask it, and what is wrong with its answers."""

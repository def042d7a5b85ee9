"""When a group that no longer serves is restarted. Nodes run it: the standard library alone."""

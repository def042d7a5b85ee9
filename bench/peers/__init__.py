"""`make bench-peers`: benchmark clients take turns against one server that logs the truth."""

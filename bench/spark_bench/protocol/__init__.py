"""The servers' languages: what a request looks like, and what a response means."""

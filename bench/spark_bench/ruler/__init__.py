"""A server with known timings, to measure the client with. It is a stand-in: no model runs."""

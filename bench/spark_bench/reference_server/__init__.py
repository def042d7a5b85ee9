"""A server that logs the true time of each chunk it sends: what the client is measured against.

It takes the place of SGLang's server; no model runs.

`ReferenceServer` (launcher.py) compiles it when first needed, and starts it; `ground_truth`
(streams.py) turns its log into true TTFT, ITL and E2E.
"""

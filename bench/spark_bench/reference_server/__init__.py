"""A server that logs the true time of each chunk it sends: what the client is measured against.

It is a stand-in for SGLang's: no model runs.

`ReferenceServer` (launcher.py) starts it, `build` (build.py) compiles it when first needed,
`ground_truth` (ground_truth.py) turns its log into true TTFT, ITL and E2E.
"""

"""`spark-bench all --profile quick` over the 14 models, on two simulated Sparks, with faults.

.venv/bin/python tests/support/all_models.py [FOLDER]      root on Linux; about 5 minutes

FOLDER holds gpt-oss's tiktoken vocabularies; without it these two models fail to start, as there
is no way out to fetch them. Faults: a model that never gets ready, one that serves another, one
whose worker is killed while it is measured. Prints each row, and the time that it took.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bench_all import EXPECTED, bench_all, inventory, proves, rows
from sparks import ROOT, Cluster

sys.path[:0] = [str(ROOT)]

from cluster.catalog.models import catalog  # noqa: E402

SECONDS = 300


def main(vocabularies: str) -> None:
    """Bring the nodes up, run, take them down."""
    cluster = Cluster(Path(f"/run/sparks-all-{time.monotonic_ns()}"))
    out = Path(tempfile.mkdtemp()) / "out"
    models = [model.id for model in catalog() if model.number]
    if not vocabularies:
        for alias in ("gpt-oss-120b", "gpt-oss-20b"):
            EXPECTED[alias] = ("STARTUP_FAILED", "could not be placed from")
    try:
        cluster.start(2)
        cluster.each(lambda node: [node.add_weights(model) for model in models])
        data = {"tiktoken_source": vocabularies or "https://registry.tb:9/none"}
        where = inventory(cluster, out.parent, **data)
        began = time.monotonic()
        code, output = bench_all(cluster, where, out)
        seconds = time.monotonic() - began
    finally:
        cluster.stop()
    print(output)
    print((out / "summary.txt").read_text())
    proves(out, code, output)
    print(f"{len(rows(out))} models in {seconds:.0f} s, {SECONDS} allowed; files in {out}")
    sys.exit(seconds > SECONDS or len(rows(out)) != len(models))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

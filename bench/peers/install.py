"""The peers' environments under .cache/peers, installed once.

SGLang comes from what `make acceptance` installs; vLLM borrows torch from that environment, and
everything else that they share. Neither loads a model: what their clients never use is left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

SGLANG = "0.5.23"
# serving.py imports it for a dataset of images.
WITH_SGLANG = ("datasets==5.2.0",)
# openai is newer than SGLang's; the others are what vLLM's client imports and SGLang's environment
# lacks.
WITH_VLLM = (
    "vllm==0.33.0",
    "cachetools==8.0.1",
    "cbor2==6.3.0",
    "cloudpickle==3.1.2",
    "openai==3.54.0",
    "py-cpuinfo==9.0.0",
    "watchfiles==1.3.0",
)
AIPERF = ("aiperf==0.13.0",)


@dataclass(frozen=True)
class Places:
    """Where everything is.

    peers: the folder of the peers' environments
    acceptance: the folder that `make acceptance` fills
    tokenizer: a folder with a small tokenizer for all clients
    """

    peers: Path
    acceptance: Path

    @property
    def tokenizer(self) -> Path:
        return self.acceptance / "model"

    def python(self, kind: str) -> Path:
        """The interpreter of a peer."""
        folder = {"rust": "sglang"}.get(kind, kind)
        return self.peers / folder / "bin" / "python"


PLACES = Places(PROJECT / ".cache" / "peers", PROJECT / ".cache" / "acceptance")


def install(packages: Collection[str], places: Places = PLACES) -> list[str]:
    """Install those of these environments that are missing; return a sentence for each that can't
    be."""
    missing = []
    for name, make in (("sglang", _sglang), ("vllm", _vllm), ("aiperf", _aiperf)):
        folder = places.peers / name
        if name not in packages or (folder / ".complete").exists():
            continue
        print(f"bench-peers: installing {name} into {folder}", file=sys.stderr, flush=True)
        try:
            make(places, folder)
        except (OSError, subprocess.CalledProcessError) as e:
            missing.append(f"{name} can't be installed: {e}")
            shutil.rmtree(folder, ignore_errors=True)
        else:
            (folder / ".complete").touch()
    return missing


def _sglang(places: Places, folder: Path) -> None:
    _borrowing(places, folder)
    _pip(folder, *WITH_SGLANG)
    # The published torchvision does not load beside a CPU build of torch; the clients never use it.
    standin = PROJECT / "tests" / "acceptance" / "standins" / "sitecustomize.py"
    shutil.copy(standin, _packages(folder) / "no_torchvision.py")
    (_packages(folder) / "no_torchvision.pth").write_text("import no_torchvision\n")


def _vllm(places: Places, folder: Path) -> None:
    _borrowing(places, folder)
    _pip(folder, "--no-deps", "--ignore-installed", *WITH_VLLM)


def _aiperf(places: Places, folder: Path) -> None:
    _venv(places, folder)
    _pip(folder, *AIPERF)


def _borrowing(places: Places, folder: Path) -> None:
    """Create an environment on top of SGLang's: its own packages take precedence."""
    _venv(places, folder)
    below = _packages(places.acceptance / "venv")
    (_packages(folder) / "sglang.pth").write_text(f"{below}\n")


def _venv(places: Places, folder: Path) -> None:
    """Create an environment with the Python of SGLang's, whose compiled modules are borrowed."""
    python = places.acceptance / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)


def _packages(folder: Path) -> Path:
    return next((folder / "lib").glob("python3.*")) / "site-packages"


def _pip(folder: Path, *what: str) -> None:
    """Install packages quietly: pip warns that SGLang's CUDA parts are missing, on purpose."""
    command = [str(folder / "bin" / "pip"), "install", "--quiet", *what]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"pip install {' '.join(what)}:\n{done.stderr[-1500:]}")

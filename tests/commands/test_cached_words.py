"""The command that looks for every model at once, run by a real shell on made folders."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from facts.containers import ServedMarks
from facts.weights import CachedModels


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache with one model whole, one begun, and a folder that nobody asks for."""
    hub = tmp_path / "hf cache" / "hub"
    whole = hub / "models--org--whole"
    snapshot = whole / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (whole / "refs").mkdir()
    (whole / "refs" / "main").write_text("c0ffee")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"x" * 30)
    begun = hub / "models--org--begun" / "blobs"
    begun.mkdir(parents=True)
    (begun / "aa.incomplete").write_bytes(os.urandom(1 << 20))
    (hub / "models--org--other" / "blobs").mkdir(parents=True)
    return tmp_path


def cached(home: Path, shell: str, *models: str, cache: str = "~/hf cache") -> dict[str, bool]:
    """Model → whether it is whole."""
    command = CachedModels().command(models, cache)
    done = subprocess.run(
        [shell, "-c", command.get_raw_value()],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    reading = CachedModels().process(done.stdout.splitlines())
    return {model: weights.complete for model, weights in reading.items()}


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_every_model_has_its_own_answer(home: Path, shell: str) -> None:
    models = ("org/absent", "org/whole", "org/gone", "org/begun")
    assert cached(home, shell, *models) == {"org/whole": True, "org/begun": False}


def test_a_missing_cache_has_nothing(home: Path) -> None:
    assert cached(home, "sh", "org/whole", cache="/no/such") == {}


def test_a_models_name_is_one_word(home: Path) -> None:
    assert cached(home, "sh", "org/$(touch x); 'y", "org/whole") == {"org/whole": True}
    assert not (home / "x").exists()


# ---- compile caches


def served_marks(root: Path, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    command = ServedMarks().command(str(root)).get_raw_value()
    return subprocess.run([shell, "-c", command], capture_output=True, text=True, timeout=30)


def test_what_has_served_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "a 'folder'"
    assert served_marks(root).stdout == ""
    (root / "compile").mkdir(parents=True)
    assert ServedMarks().process(served_marks(root).stdout.splitlines()) == ()
    mark = "abababababab/sglang-0/served/0123456789abcdef"
    for name in (mark, "x/y/served/z", "abababababab/sglang-0/kernels/0123456789abcdef"):
        (root / "compile" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "compile" / name).touch()
    assert ServedMarks().process(served_marks(root).stdout.splitlines()) == (mark,)


def test_a_folder_that_can_not_be_written_is_reported() -> None:
    done = served_marks(Path("/proc/sys/kernel/kept"))
    assert (done.returncode, done.stderr) == (1, "/proc/sys/kernel is not writable\n")

"""Where a tokenizer.json is on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from spark_bench.errors import BadInput
from spark_bench.prompts.process import FileTokens

FILE = "tokenizer.json"


def load(path: Path) -> FileTokens:
    """The tokenizer at `path`: the file, a folder with one, or a model's folder in a Hugging Face
    cache (models--org--name). Anything else is a BadInput."""
    file = _file(path)
    if file is None:
        raise BadInput(
            f"--tokenizer {path}: no {FILE} there; give the file, the folder of the model's weights"
            " or its folder in the Hugging Face cache (models--org--name)"
        )
    tokens = FileTokens(file)
    tokens.start()
    return tokens


def folder_of(model: str) -> Path | None:
    """Where this machine has the model's tokenizer.json: `model` is a folder, or the id of one in
    the Hugging Face cache."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folders = [cache / f"models--{model.replace('/', '--')}"]
    if Path(model).is_absolute():
        folders.append(Path(model))
    return next((folder for folder in folders if folder.is_dir() and _file(folder)), None)


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path
    if (path / FILE).is_file():
        return path / FILE
    return _snapshot(path)


def _snapshot(folder: Path) -> Path | None:
    """Of a model's folder in a Hugging Face cache: what its main branch names, else the newest."""
    found = sorted(folder.glob(f"snapshots/*/{FILE}"), key=lambda file: file.stat().st_mtime)
    main = folder / "refs" / "main"
    named = main.read_text().strip() if main.is_file() else ""
    return next((file for file in found if file.parent.name == named), found[-1] if found else None)

"""A tokenizer.json on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from spark_bench.errors import BadInput
from spark_bench.prompts.words import POOL, Words, pick, plain_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
# Characters encoded at once. An encoding holds some 100 bytes a token: 1000 prompts of 1024 tokens
# in one batch would be 100 MB.
BATCH = 1 << 18


class FileTokens:
    """A model's own tokenizer, by the tokenizers library."""

    exact = True

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        # A tokenizer.json may ask for both, which would make long texts count too little, and
        # short ones in a batch too much.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.name = name

    def count(self, texts: Sequence[str]) -> list[int]:
        return [
            len(encoding)
            for batch in batches(texts, BATCH)
            for encoding in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        ]

    def words(self) -> Words:
        size = self._tokenizer.get_vocab_size()
        entries = (self._tokenizer.id_to_token(number) or "" for number in range(size))
        # In a byte-level vocabulary about half of what looks like a word is only a part of one.
        return pick(list(islice(plain_words(entries), 4 * POOL)), self.count)


def batches(texts: Sequence[str], characters: int) -> Iterator[list[str]]:
    """The texts in order, in lists of about so many characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def load(path: Path) -> FileTokens:
    """The tokenizer at `path`: the file, a folder with one, or a model's folder in a Hugging Face
    cache (models--org--name). Anything else is a BadInput."""
    file = _file(path)
    if file is None:
        raise BadInput(
            f"--tokenizer {path}: no {FILE} there; give the file, the folder of the model's weights"
            " or its folder in the Hugging Face cache (models--org--name)"
        )
    from tokenizers import Tokenizer

    try:
        return FileTokens(Tokenizer.from_file(str(file)), f"{FILE} of {file.parent}")
    except Exception as e:  # the library raises nothing narrower
        raise BadInput(
            f"--tokenizer {file} is not a tokenizer that the tokenizers library can read ({e});"
            " copy it again from the model's weights"
        ) from e


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

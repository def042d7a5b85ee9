"""Counting with a tokenizer.json in a process of its own (see library for why)."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, cast

import msgspec

import spark_bench
from spark_bench.errors import BadInput, BenchError
from spark_bench.prompts.library import CountReply, batches, receive_frame, send_frame
from spark_bench.prompts.vocabulary import Vocabulary

BATCH = 1 << 20  # characters in one question
TIMED_BATCH = 1 << 15  # where time is bounded: some 10 ms each


class _Process:
    """One such process, from its start to its end."""

    def __init__(self, file: Path) -> None:
        package = str(Path(spark_bench.__file__).parents[1])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._file = file
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "spark_bench.prompts.library", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for us; it ends when its input does
        )
        self._questions = cast(IO[bytes], self._popen.stdin)
        self._replies = cast(IO[bytes], self._popen.stdout)

    def ask(self, texts: list[str] | None) -> CountReply:
        try:
            send_frame(self._questions, texts)
        except BrokenPipeError as e:
            raise self._ended() from e
        return self.reply()

    def reply(self) -> CountReply:
        frame = receive_frame(self._replies)
        if frame is None:
            raise self._ended()
        return msgspec.msgpack.decode(frame, type=CountReply)

    def close(self) -> None:
        with suppress(BrokenPipeError):  # a question that it ended without taking
            self._questions.close()
        self._replies.close()
        self._popen.wait()

    def _ended(self) -> BenchError:
        return BenchError(
            f"the process that counts tokens with {self._file} ended by itself (exit code"
            f" {self._popen.wait()}); -9 is the kernel's, for want of memory"
        )


class FileTokens:
    """A model's own tokenizer, from its tokenizer.json.

    The process that reads it starts when it is first needed and lives until `close`.
    """

    exact = True

    def __init__(self, file: Path) -> None:
        self.name = f"{file.name} of {file.parent}"
        self._file = file
        self._process: _Process | None = None

    def start(self) -> _Process:
        """The process, with the file read; a BadInput if that isn't a tokenizer's."""
        if self._process is None:
            process = _Process(self._file)
            if error := process.reply().error:
                process.close()
                raise BadInput(
                    f"--tokenizer {self._file} is not a tokenizer that the tokenizers library can"
                    f" read ({error}); copy it again from the model's weights"
                )
            self._process = process
        return self._process

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        began = time.monotonic()
        process = self.start()
        counts: list[int] = []
        for batch in batches(texts, BATCH if seconds is None else TIMED_BATCH):
            counts += process.ask(batch).counts
            if seconds is not None and time.monotonic() - began > seconds:
                break
        return counts

    def words(self) -> Vocabulary:
        return self._words

    @cached_property
    def _words(self) -> Vocabulary:
        return self.start().ask(None).words or Vocabulary((), ())

    def close(self) -> None:
        """End the process and free its memory; counting again starts another."""
        if self._process:
            self._process.close()
            self._process = None


FILE = "tokenizer.json"


def load_local_tokens(path: Path) -> FileTokens:
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
    snapshots = sorted(folder.glob(f"snapshots/*/{FILE}"), key=lambda file: file.stat().st_mtime)
    main = folder / "refs" / "main"
    named = main.read_text().strip() if main.is_file() else ""
    return next(
        (file for file in snapshots if file.parent.name == named),
        snapshots[-1] if snapshots else None,
    )

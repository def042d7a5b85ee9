"""A tokenizer.json read by the tokenizers library, and the process that holds it.

The vocabulary of a large model takes 150 to 400 MB while it is read, more than the rest of the
client together. So a process of its own holds it (`python -m spark_bench.prompts.library FILE`).
It reads questions from stdin and answers on stdout, each a frame: its length in 4 bytes, then
MessagePack. The answer to a list of texts is their counts, that to nil the words. It exits when
its input ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import msgspec

import spark_bench
from spark_bench.errors import BadInput, BenchError
from spark_bench.prompts.tokens import POOL, Vocabulary, pick, plain_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Characters encoded at once. An encoding takes about 100 bytes per token: 1000 prompts of 1024
# tokens in one batch would take 100 MB.
BATCH = 1 << 18
QUESTION = 1 << 20  # characters in one question
TIMED_QUESTION = 1 << 15  # the same if time is limited: about 10 ms each


class CountReply(msgspec.Struct):
    """The process's answer. The first, sent when the file has been read, has at most an error."""

    counts: list[int] = []
    words: Vocabulary | None = None
    error: str = ""


class LibraryTokens:
    """A model's own tokenizer, in this process."""

    exact = True

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        # A tokenizer.json may enable both: a long text would then count too few tokens, a short
        # one in a batch too many.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.name = name

    def count(self, texts: Sequence[str], seconds: float | None = None) -> list[int]:
        return [
            len(encoding)
            for batch in batches(texts, BATCH)
            for encoding in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        ]

    def words(self) -> Vocabulary:
        size = self._tokenizer.get_vocab_size()
        entries = (self._tokenizer.id_to_token(number) or "" for number in range(size))
        # In a byte-level vocabulary about half of what looks like a word is only a part of one.
        return pick(list(islice(plain_words(entries), 4 * POOL)), self.count)

    def close(self) -> None:
        """Nothing to free."""


def batches(texts: Sequence[str], characters: int) -> Iterator[list[str]]:
    """The texts in order, in lists that have about this many characters each."""
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


def send_frame(file: IO[bytes], message: object) -> None:
    """Write one frame."""
    frame = msgspec.msgpack.encode(message)
    file.write(len(frame).to_bytes(4, "big"))
    file.write(frame)
    file.flush()


def receive_frame(file: IO[bytes]) -> bytes | None:
    """Read one frame; None at the end of the file, even if that is within a frame."""
    size = int.from_bytes(file.read(4), "big")
    frame = file.read(size)
    return frame if frame and len(frame) == size else None


def count_texts(tokens: LibraryTokens, texts: list[str] | None) -> CountReply:
    """The process's answer to one question: counts, or words if `texts` is None."""
    return (
        CountReply(words=tokens.words())
        if texts is None
        else CountReply(counts=tokens.count(texts))
    )


def serve_counts(file: str, questions: IO[bytes], replies: IO[bytes]) -> None:
    """Read the tokenizer and answer until the questions end."""
    from tokenizers import Tokenizer

    try:
        tokens = LibraryTokens(Tokenizer.from_file(file), file)
    except Exception as e:  # the library raises nothing narrower
        send_frame(replies, CountReply(error=str(e) or type(e).__name__))
        return
    send_frame(replies, CountReply())
    while (frame := receive_frame(questions)) is not None:
        send_frame(
            replies, count_texts(tokens, msgspec.msgpack.decode(frame, type=list[str] | None))
        )


class _Process:
    """A process that counts, from its start to its end."""

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
            f"the process that counts tokens with {self._file} ended unexpectedly (exit code"
            f" {self._popen.wait()}); -9: the kernel killed it because memory ran out"
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
        """The process, with the file read; BadInput if the file isn't a tokenizer."""
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
        for batch in batches(texts, QUESTION if seconds is None else TIMED_QUESTION):
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
    """The tokenizer at `path`: a tokenizer.json, a folder with one, or a model's folder in a
    Hugging Face cache (models--org--name). BadInput for anything else."""
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
    """The folder on this machine with the model's tokenizer.json; None if there is none.

    model: a folder's absolute path, or the id of a model in the Hugging Face cache
    """
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
    # A model's folder in a Hugging Face cache: what its main branch names, else the newest.
    snapshots = sorted(path.glob(f"snapshots/*/{FILE}"), key=lambda file: file.stat().st_mtime)
    main = path / "refs" / "main"
    named = main.read_text().strip() if main.is_file() else ""
    return next(
        (file for file in snapshots if file.parent.name == named),
        snapshots[-1] if snapshots else None,
    )


if __name__ == "__main__":
    serve_counts(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)

"""A tokenizer.json read by the tokenizers library, and the process that holds it.

The vocabulary of a large model takes 150 to 400 MB while it is read, more than all else of the
client together. So a process of its own holds it (`python -m spark_bench.prompts.library FILE`),
which answers on its standard output what comes on its standard input, in frames of 4 bytes of
length and MessagePack: a list of texts is answered by their counts, nil by the words. It ends with
its input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING

import msgspec

from spark_bench.prompts.vocabulary import POOL, Vocabulary, pick, plain_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Characters encoded at once. An encoding holds some 100 bytes a token: 1000 prompts of 1024 tokens
# in one batch would be 100 MB.
BATCH = 1 << 18


class CountReply(msgspec.Struct):
    """The process' answer; the first, when the file is read, holds at most an error."""

    counts: list[int] = []
    words: Vocabulary | None = None
    error: str = ""


class LibraryTokens:
    """A model's own tokenizer, in this process."""

    exact = True

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        # A tokenizer.json may ask for both, which would make long texts count too little, and
        # short ones in a batch too much.
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
        """Nothing to end."""


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


def send_frame(file: IO[bytes], message: object) -> None:
    """Write one frame."""
    frame = msgspec.msgpack.encode(message)
    file.write(len(frame).to_bytes(4, "big"))
    file.write(frame)
    file.flush()


def receive_frame(file: IO[bytes]) -> bytes | None:
    """Read one frame; None at the end of the file, be it in the middle of one."""
    size = int.from_bytes(file.read(4), "big")
    frame = file.read(size)
    return frame if frame and len(frame) == size else None


def count_texts(tokens: LibraryTokens, texts: list[str] | None) -> CountReply:
    """What the process says to one question."""
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


if __name__ == "__main__":
    serve_counts(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)

"""Small tokenizers of each kind, trained in memory on a few hundred made-up sentences."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

from spark_bench.prompts.library import LibraryTokens
from spark_bench.prompts.tokens import COMMON
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

ALPHABET = list("abcdefghijklmnopqrstuvwxyz ")


def sentences() -> list[str]:
    rng = Random(7)
    return [" ".join(rng.choices(COMMON, k=12)) + "." for _ in range(600)]


def byte_level(vocabulary: int = 900) -> Tokenizer:
    """As GPT-2, Llama 3, Qwen and gpt-oss: the space belongs to the word after it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    return tokenizer


def bytes_only() -> Tokenizer:
    """No merges at all: each letter a token."""
    return byte_level(256)


def few_merges() -> Tokenizer:
    """Words of two or three tokens."""
    return byte_level(330)


def spaceless() -> Tokenizer:
    """BPE that loses the spaces: no marker before a word."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>"], initial_alphabet=ALPHABET, show_progress=False
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    return tokenizer


def across_words() -> Tokenizer:
    """BPE that merges across word borders: "of the" can be one token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=["<unk>"],
        initial_alphabet=["▁", *ALPHABET],
        show_progress=False,
    )
    few = [" ".join(Random(number % 40).choices(COMMON, k=5)) for number in range(400)]
    tokenizer.train_from_iterator(few, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """As SentencePiece's default: T5, Gemma, early Llama."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=600,
        special_tokens=["<unk>"],
        unk_token="<unk>",
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    return tokenizer


def wordpiece() -> Tokenizer:
    """As BERT."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=600,
        special_tokens=["[UNK]"],
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    return tokenizer


def with_extras() -> Tokenizer:
    """One whose file asks for truncation, padding and a beginning-of-text token."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<s>"])
    begin = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    tokenizer.enable_truncation(64)
    tokenizer.enable_padding(length=64)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "bytes-only": bytes_only,
    "few-merges": few_merges,
    "spaceless": spaceless,
    "across-words": across_words,
    "unigram": unigram,
    "wordpiece": wordpiece,
    "with-extras": with_extras,
}


@cache
def tiny(kind: str) -> LibraryTokens:
    """The tokens of one kind; trained once a run."""
    return LibraryTokens(KINDS[kind](), f"tiny {kind}")

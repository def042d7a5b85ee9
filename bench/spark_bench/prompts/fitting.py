"""Texts of an exact number of tokens, by any tokenizer: drafted, counted, mended until they fit."""

import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from spark_bench import errors
from spark_bench.prompts.tokens import Tokens, Vocabulary

ROUNDS = 100  # of counting the texts that don't fit yet; usually one is enough, 10 are a lot
NEAR = 4  # if no more tokens than this are missing, candidates are counted before one is added
TRIALS = 12  # words tried then, and as many runs of letters
CONTEXT = 24  # characters before an addition that can affect how many tokens it adds


def choice(rng: Random, options: Sequence[str]) -> str:
    """A random option. Of Random's methods, only random() is the same in every Python version."""
    return options[int(rng.random() * len(options))]


@dataclass(slots=True)
class Draft:
    """A text being fitted to `target` tokens: the head stays, parts are added and removed."""

    target: int
    rng: Random
    head: str = ""
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.head + "".join(self.parts)

    def add(self, tokens: int, words: Vocabulary) -> None:
        """Append as many words as `tokens`, as if each were one token."""
        if not self.parts and not self.head:
            self.parts.append(choice(self.rng, words.first))
            tokens -= 1
        rest, random, size = words.rest, self.rng.random, len(words.rest)
        self.parts += [rest[int(random() * size)] for _ in range(tokens)]

    def resize(self, gap: int, words: Vocabulary) -> None:
        """Append words for the `gap` tokens that are missing, or remove some if it is negative.

        At least one word; how many is estimated from the tokens per word so far.
        """
        counted = self.target - gap
        share = abs(gap) * len(self.parts) // counted if self.parts and counted else abs(gap)
        if gap > 0:
            self.add(max(1, share), words)
        else:
            del self.parts[len(self.parts) - max(1, share) :]

    def options(self, words: Vocabulary) -> list[str]:
        """Candidates for the next part: words, and letters that make the last word longer."""
        begins = not self.parts and not self.head
        options = [choice(self.rng, words.first if begins else words.rest) for _ in range(TRIALS)]
        for number in range(TRIALS):
            letters = [choice(self.rng, string.ascii_lowercase) for _ in range(1 + number % 3)]
            options.append("".join(letters))
        return options


def fit_length(drafts: Sequence[Draft], tokens: Tokens, words: Vocabulary) -> list[str]:
    """The drafts' texts, each of exactly its target tokens; BadInput if one can't be found."""
    texts = [draft.text for draft in drafts]
    pending = list(range(len(drafts)))
    for _ in range(ROUNDS):
        counts = tokens.count([texts[number] for number in pending])
        missing = {
            number: drafts[number].target - count
            for number, count in zip(pending, counts, strict=True)
            if count != drafts[number].target
        }
        if not missing:
            return texts
        pending = list(missing)
        near = {number: gap for number, gap in missing.items() if 0 < gap <= NEAR}
        for number in missing.keys() - near.keys():
            drafts[number].resize(missing[number], words)
        if near:
            _close([(drafts[number], gap) for number, gap in near.items()], tokens, words)
        for number in pending:
            texts[number] = drafts[number].text
    raise errors.BadInput(
        f"no text of exactly {drafts[pending[0]].target} tokens was found with {tokens.name}; "
        f"the shortest has {smallest(tokens, words)}: use another --input-len"
    )


def _close(near: Sequence[tuple[Draft, int]], tokens: Tokens, words: Vocabulary) -> None:
    """Append to each draft the candidate that most nearly fills its gap; if none fits, remove its
    last part."""
    tried = [(draft.text[-CONTEXT:], draft.options(words)) for draft, _ in near]
    counts = iter(
        tokens.count(
            [
                text
                for end, options in tried
                for text in [end, *(end + option for option in options)]
            ]
        )
    )
    for (draft, gap), (_, options) in zip(near, tried, strict=True):
        before = next(counts)
        added = {option: next(counts) - before for option in options}
        fitting = [option for option in options if 0 < added[option] <= gap]
        if fitting:
            draft.parts.append(max(fitting, key=added.__getitem__))
        elif draft.parts:
            draft.parts.pop()


def smallest(tokens: Tokens, words: Vocabulary) -> int:
    """How many tokens the shortest text has that can be made."""
    return min(count for count in tokens.count([*words.first, *string.ascii_lowercase]) if count)

"""Texts of exactly so many tokens, by any tokenizer.

With words of one token each a text is right as soon as it is drafted, and counting it only checks
that. Otherwise (words that the vocabulary has in parts, merges across word borders) words are taken
off and put on until the count is right, the last few tokens by trying some words and letters and
taking what is predicted to fit. Letters go on without a space, so a text is ASCII words throughout,
begins and ends with a letter, and survives templates that strip.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from spark_bench.errors import BadInput
from spark_bench.prompts.tokens import Tokens, Vocabulary

ROUNDS = 100  # of counting all that isn't right yet; one is the rule, 10 are a lot
NEAR = 4  # tokens missing from which on each addition is tried before it is made
TRIALS = 12  # words tried then, and as many times letters
CONTEXT = 24  # characters before an addition that can change what it counts


def choice(rng: Random, options: Sequence[str]) -> str:
    """One of the options. Python promises random() alone to be the same in every version."""
    return options[int(rng.random() * len(options))]


@dataclass(slots=True)
class Draft:
    """A text on its way to `target` tokens: the head stays, the parts come and go."""

    target: int
    rng: Random
    head: str = ""
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.head + "".join(self.parts)

    def add(self, tokens: int, words: Vocabulary) -> None:
        """Put on so many words."""
        if not self.parts and not self.head:
            self.parts.append(choice(self.rng, words.first))
            tokens -= 1
        rest, random, size = words.rest, self.rng.random, len(words.rest)
        self.parts += [rest[int(random() * size)] for _ in range(tokens)]

    def resize(self, gap: int, words: Vocabulary) -> None:
        """Put on words for the `gap` tokens that are missing, or take off those below zero.

        One word at least, and as many as it takes if all are like those that are there.
        """
        counted = self.target - gap
        share = abs(gap) * len(self.parts) // counted if self.parts and counted else abs(gap)
        if gap > 0:
            self.add(max(1, share), words)
        else:
            del self.parts[len(self.parts) - max(1, share) :]

    def options(self, words: Vocabulary) -> list[str]:
        """What could come next: words, and letters that make the last word longer."""
        begins = not self.parts and not self.head
        options = [choice(self.rng, words.first if begins else words.rest) for _ in range(TRIALS)]
        for number in range(TRIALS):
            letters = [choice(self.rng, string.ascii_lowercase) for _ in range(1 + number % 3)]
            options.append("".join(letters))
        return options


def fit_length(drafts: Sequence[Draft], tokens: Tokens, words: Vocabulary) -> list[str]:
    """The drafts' texts, each of exactly its target tokens; a BadInput if that can't be."""
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
    raise BadInput(
        f"no text of exactly {drafts[pending[0]].target} tokens was found with {tokens.name}; "
        f"the shortest has {smallest(tokens, words)}: use another --input-len"
    )


def _close(near: Sequence[tuple[Draft, int]], tokens: Tokens, words: Vocabulary) -> None:
    """Add to each draft what most nearly fills its gap, or take its last part off."""
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
    """Tokens of the shortest text that there is."""
    return min(count for count in tokens.count([*words.first, *string.ascii_lowercase]) if count)

"""Facts in long texts: a question is about one, others resemble it.

A text is generated from a seed, so nothing is from outside. All depths of a length share a text up
to the fact, so that a prefix cache spares half of the work.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random

from spark_bench.errors import BadInput
from spark_bench.prompts.tokens import Tokens
from spark_bench.quality.items import ItemMessage, QualityItem

DEPTHS = range(10, 100, 10)  # percent of the text before the fact
SHORTEST, LONGEST_UNKNOWN = 4096, 32768  # tokens; the second where the context is not known
# Tokens of a context that are left for the template and the question.
AROUND = 400
# What counting sentence by sentence, or without a tokenizer, may be off by.
COUNTED_MARGIN, ESTIMATED_MARGIN = 0.02, 0.15

PEOPLE = (
    *("Alma", "Boris", "Chloe", "Dmitri", "Esther", "Felix", "Greta", "Hugo", "Irene", "Jonas"),
    *("Kaito", "Lucia", "Mateo", "Noor", "Olga", "Pavel", "Quinn", "Rosa", "Sven", "Tara"),
)
FACT = "The locker of {who} has the number {number}."
ASK = (
    "Here is a long text. It says in one place which number the locker of {who} has.\n\n{text}\n\n"
    "Which number has the locker of {who}? Reply with the number alone."
)
DECOYS = 5  # lockers of other people, in each text
SUBJECTS = (
    *("The baker", "A young clerk", "The old captain", "My neighbor", "The gardener"),
    *("A tall engineer", "The teacher", "The night watchman", "A quiet painter", "The mayor"),
)
VERBS = (
    *("carried", "repaired", "painted", "described", "lost", "borrowed", "counted", "sold"),
    *("measured", "cleaned", "photographed", "bought", "forgot", "admired", "weighed", "hid"),
)
OBJECTS = (
    *("a wooden chair", "the red bicycle", "two baskets of pears", "an old map", "the church bell"),
    *("a bag of flour", "the broken clock", "some copper wire", "a box of letters", "the ladder"),
    *("a glass lamp", "the fishing net", "a wool coat", "the garden gate", "a silver spoon"),
)
PLACES = (
    *("near the river", "behind the station", "at the market", "in the attic", "by the lighthouse"),
    *("under the bridge", "beside the mill", "in the harbor", "outside the school", "at the fair"),
)
TIMES = (
    *("on a cold morning", "before the storm", "late in autumn", "during the festival"),
    *("after lunch", "one quiet evening", "in the first week of May", "just before sunset"),
)


def needle_lengths(wanted: Sequence[int], context: int | None, answer: int) -> tuple[int, ...]:
    """The lengths, in tokens of the whole prompt.

    wanted: by the user; empty: 4,096, doubled until the context's end, and that
    context: tokens of the served model; None: unknown
    answer: tokens that an answer may have
    Raises BadInput for a length that the context has no room for.
    """
    most = context - answer if context else LONGEST_UNKNOWN
    if too_long := [length for length in wanted if context and length > most]:
        raise BadInput(
            f"--lengths {too_long[0]}: the served model takes {context} tokens, of which an answer "
            f"has {answer}: give {most} at most, or --max-tokens less"
        )
    if context and most < 2 * AROUND:
        raise BadInput(
            f"needle: the served model takes {context} tokens, of which an answer has {answer}: "
            "give --max-tokens less"
        )
    if wanted:
        return tuple(wanted)
    doubled = [SHORTEST << n for n in range(20) if SHORTEST << n < most]
    return (*doubled, most)


def needle_items(lengths: Sequence[int], seed: int, tokens: Tokens) -> list[QualityItem]:
    """The facts at all depths of texts of these lengths, in tokens of the whole prompt."""
    return [item for length in lengths for item in _of_length(length, seed, tokens)]


def _of_length(length: int, seed: int, tokens: Tokens) -> Iterator[QualityItem]:
    random = Random(f"needle/{seed}/{length}")
    margin = COUNTED_MARGIN if tokens.exact else ESTIMATED_MARGIN
    room = int((length - AROUND) * (1 - margin))
    sentences = write_sentences(random, room, tokens)
    sentences = sentences[: sum(end <= room for end in accumulate(tokens.count(sentences)))]
    people = random.sample(PEOPLE, DECOYS + len(DEPTHS))
    numbers = random.sample(range(100_000, 1_000_000), DECOYS + len(DEPTHS))
    facts = [
        FACT.format(who=who, number=number) for who, number in zip(people, numbers, strict=True)
    ]
    for decoy in facts[:DECOYS]:
        sentences.insert(random.randrange(len(sentences) + 1), decoy)
    ends = list(accumulate(tokens.count(sentences)))
    for depth, who, number, fact in zip(
        DEPTHS, people[DECOYS:], numbers[DECOYS:], facts[DECOYS:], strict=True
    ):
        place = sum(end <= ends[-1] * depth / 100 for end in ends)
        text = " ".join([*sentences[:place], fact, *sentences[place:]])
        yield QualityItem(
            id=f"needle-{seed}-{length}-{depth}",
            group=f"{length} tokens",
            messages=(ItemMessage("user", ASK.format(who=who, text=text)),),
            grader="number",
            expected=str(number),
            tokens=length,
        )


def write_sentences(random: Random, room: int, tokens: Tokens) -> list[str]:
    """Sentences with at least `room` tokens together."""
    sentences: list[str] = []
    counted = 0
    while counted < room:
        more = [
            f"{random.choice(SUBJECTS)} {random.choice(VERBS)} {random.choice(OBJECTS)} "
            f"{random.choice(PLACES)} {random.choice(TIMES)}."
            for _ in range(max(16, (room - counted) // 16))
        ]
        counted += sum(tokens.count(more))
        sentences += more
    return sentences

"""Questions with one right answer, and texts whose sense can be judged.

A deploy always sends those of seed 0; other seeds give a measurement questions that differ.
"""

from dataclasses import dataclass
from functools import cache
from random import Random

CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "England": "London",
    "Russia": "Moscow",
    "Egypt": "Cairo",
    "Greece": "Athens",
}
OPPOSITES = {"hot": "cold", "up": "down", "big": "small", "day": "night", "open": "closed"}
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
CHINESE_CITIES = ("北京", "上海", "广州", "南京", "西安", "杭州")
TOPICS = ("rain forms", "bread is baked", "a bicycle works", "trees grow", "ships float")
EQUATION = "Answer with one equation, in digits."
ONLY_NUMBER, ONLY_WORD = "Answer with the number only, in digits.", "Answer with one word."
WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
STORIES = (
    "Once upon a time there was a little girl who lived with her grandmother in a house near",
    "Early in the morning the old fisherman went down to the harbor, where his boat",
    "The train was late again, and on the platform people looked at their watches and",
)
PROSE = (
    "Water from the sea rises into the air as vapor. When the air gets colder, the vapor",
    "Bread is made of flour, water, salt and yeast. The baker mixes them into a dough, which",
    "A bicycle has two wheels, one behind the other. The rider turns the pedals, and the chain",
)
# Plain prose, of which a model for English predicts most; a random one knows none of it.
SENTENCES = (
    "The sun rises in the east and sets in the west.",
    "In the morning people get up, wash their hands and face, and eat breakfast.",
    "Children go to school, where they learn to read and write.",
    "In the evening the whole family sits at the table and talks about the day.",
    "When it rains, the streets are wet and people open their umbrellas.",
    "The dog ran across the garden and barked at the cat, which climbed up a tree.",
    "She opened the door, turned on the light and put her bag on the floor.",
    "There are seven days in a week and twelve months in a year.",
    "He was so tired that he fell asleep as soon as he lay down on the bed.",
    "A year has four seasons: spring, summer, autumn and winter.",
)


@dataclass(frozen=True)
class Question:
    """A question with one right answer.

    + id: of its request
    + answer: a number in digits, or the word that has to be in the answer
    + other: another way to write the answer; "" if there is none
    """

    id: str
    text: str
    answer: str
    other: str = ""


@dataclass(frozen=True)
class Questions:
    """All of one probing.

    + arithmetic: one sum in different words
    + continuations: what a language model of any size continues alike; one without chat gets
      these, `prose` and the passage alone
    + short: answered with a word or a number
    + city: whose weather a tool has to look up
    + passage: plain English, whose probability is read
    + script: requests in Chinese a sentence in Chinese
    """

    arithmetic: tuple[Question, ...]
    continuations: tuple[Question, ...]
    short: tuple[Question, ...]
    essay: str
    prose: tuple[str, ...]
    city: str
    script: str
    passage: str

    @property
    def weather(self) -> str:
        return f"What is the weather in {self.city}, in degrees Celsius? Use the tool."


@cache
def questions(seed: int = 0) -> Questions:
    """The questions that a seed gives: the same for the same seed."""
    draw = Random(seed)
    land, other = draw.sample(sorted(CAPITALS), 2)
    return Questions(
        arithmetic=sums(draw),
        continuations=(
            *lists(draw),
            Question(
                "capital",
                f"The capital of {other} is {CAPITALS[other]}. The capital of {land} is",
                CAPITALS[land],
            ),
        ),
        short=short_questions(draw, land),
        essay=f"Explain in three sentences how {draw.choice(TOPICS)}.",
        prose=(draw.choice(PROSE), draw.choice(STORIES)),
        city=CAPITALS[land],
        script=f"请用中文写一句话介绍{draw.choice(CHINESE_CITIES)}这座城市。",
        passage=" ".join(draw.sample(SENTENCES, 3)),
    )


def sums(draw: Random) -> tuple[Question, ...]:
    """One sum, twice. A right model of 1.5 billion parameters adds numbers that it writes down, and
    now and then not those that words spell, or where nothing but the result may be written."""
    first, second = draw.randrange(11, 50), draw.randrange(11, 50)
    result = (str(first + second), spelled(first + second))
    return (
        Question("sum", f"What is {first} + {second}? {EQUATION}", *result),
        Question("same sum", f"Add {second} to {first}. {EQUATION}", *result),
    )


def lists(draw: Random) -> tuple[Question, ...]:
    """Beginnings of lists that every language model has seen."""
    start, letters = draw.randrange(1, 40), draw.randrange(8, 23)
    day, month = draw.randrange(7), draw.randrange(12)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    numbers = ", ".join(str(number) for number in range(start, start + 11))
    return (
        Question("counting", f"{numbers},", str(start + 11)),
        Question("weekdays", *_next(WEEKDAYS, day, 9)),
        Question("months", *_next(MONTHS, month, 6)),
        Question("alphabet", " ".join(alphabet[:letters]), alphabet[letters]),
    )


def short_questions(draw: Random, land: str) -> tuple[Question, ...]:
    """Questions that a word or a number answers."""
    left, right, less = draw.randrange(2, 10), draw.randrange(2, 10), draw.randrange(1, 10)
    word = draw.choice(sorted(OPPOSITES))
    return (
        Question("product", f"What is {left} times {right}? {ONLY_NUMBER}", str(left * right)),
        Question("capital", f"What is the capital of {land}? {ONLY_WORD}", CAPITALS[land]),
        Question("week", f"How many days are in a week? {ONLY_NUMBER}", "7", "seven"),
        Question("difference", f"What is 100 minus {less}? {ONLY_NUMBER}", str(100 - less)),
        Question("opposite", f"What is the opposite of {word}? {ONLY_WORD}", OPPOSITES[word]),
    )


def spelled(number: int) -> str:
    """A number from 0 to 99 in English words."""
    if number < len(WORDS):
        return WORDS[number]
    ten, one = divmod(number, 10)
    return TENS[ten - 2] + (f"-{WORDS[one]}" if one else "")


def _next(names: tuple[str, ...], start: int, count: int) -> tuple[str, str]:
    """`count` names from position `start` on, in a circle; and the one that comes next."""
    names = (names * 3)[start : start + count + 1]
    return ", ".join(names[:count]) + ",", names[count]

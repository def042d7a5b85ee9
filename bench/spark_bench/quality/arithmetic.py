"""Word problems of three levels: generated from a seed, with answers computed.

Nothing is from outside: no model can have been trained on the numbers. Level 1 takes one step,
level 2 two or three, level 3 four or five. All answers are whole numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from spark_bench.quality.items import ItemMessage, QualityItem

PER_LEVEL = 100  # ± 10 points for a level, ± 6 for all three, at a score of 50 %
ASK = (
    "Solve this problem. Think step by step as far as you need, then end with one line of the form "
    '"Answer: N", where N is the number alone.\n\n'
)
# For models without a chat template: problems of other numbers than the items'.
EXAMPLES = (
    "Problem: Mia has 3 red and 4 green marbles. How many marbles does she have?\n"
    "Solution: 3 + 4 = 7.\nAnswer: 7\n\n"
    "Problem: A box holds 5 pens. Omar buys 6 boxes and gives away 8 pens. How many pens are "
    "left?\nSolution: 6 x 5 = 30. 30 - 8 = 22.\nAnswer: 22\n\n"
    "Problem: A train covers 90 km in an hour. It drives 3 hours, rests, and drives 20 km more. "
    "How many km has it covered?\nSolution: 3 x 90 = 270. 270 + 20 = 290.\nAnswer: 290\n\n"
)
STOP = "\nProblem:"

NAMES = (
    *("Ada", "Ben", "Carla", "Dev", "Elif", "Farid", "Grace", "Hana"),
    *("Ivan", "Jun", "Kofi", "Lena", "Marco", "Nadia", "Omar", "Priya"),
)
THINGS = (
    *("apples", "books", "candles", "coins", "cups", "eggs"),
    *("lamps", "marbles", "pens", "plates", "stamps", "tickets"),
)

Numbers = Mapping[str, int]


@dataclass(frozen=True)
class Template:
    """Problems of one kind.

    text: with names of numbers, and of `who`, `other` (people) and `what` (a thing)
    drawn: the numbers to draw, each from these
    answer: computed from the drawn numbers
    derived: numbers of the text that follow from those drawn
    """

    text: str
    drawn: Mapping[str, range]
    answer: Callable[[Numbers], int]
    derived: Callable[[Numbers], Numbers] = lambda _: {}

    def draw(self, random: Random) -> tuple[str, int]:
        """A problem and its answer."""
        numbers = {name: random.choice(values) for name, values in self.drawn.items()}
        who, other = random.sample(NAMES, 2)
        words = {"who": who, "other": other, "what": random.choice(THINGS)}
        text = self.text.format(**words, **numbers, **self.derived(numbers))
        return text, self.answer(numbers)


def arithmetic_items(seed: int, completion: bool = False) -> list[QualityItem]:
    """The problems of a seed, levels in turn, so that any first part has all of them.

    completion: with worked examples, for a model without chat template
    """
    items = []
    for number in range(PER_LEVEL):
        for level, templates in TEMPLATES.items():
            random = Random(f"arith/{seed}/{level}/{number}")
            problem, answer = random.choice(templates).draw(random)
            text = f"{EXAMPLES}Problem: {problem}\nSolution:" if completion else ASK + problem
            items.append(
                QualityItem(
                    id=f"arith-{seed}-{level}-{number:03}",
                    group=f"level {level}",
                    messages=(ItemMessage("user", text),),
                    grader="number",
                    expected=str(answer),
                    fields={"stop": [STOP]} if completion else {},
                )
            )
    return items


def _seated(n: Numbers) -> int:
    """Pupils of the last template who sit down at tables."""
    pupils = n["classes"] * n["each"]
    return pupils - pupils // n["part"] - n["absent"]


TEMPLATES: dict[int, tuple[Template, ...]] = {
    1: (
        Template(
            "{who} has {a} {what} and gets {b} more. How many {what} does {who} have now?",
            {"a": range(12, 891), "b": range(12, 891)},
            lambda n: n["a"] + n["b"],
        ),
        Template(
            "{who} had {had} {what} and sold {sold} of them. How many {what} are left?",
            {"left": range(12, 481), "sold": range(12, 481)},
            lambda n: n["left"],
            lambda n: {"had": n["left"] + n["sold"]},
        ),
        Template(
            "A crate holds {each} {what}. How many {what} do {crates} such crates hold?",
            {"each": range(6, 49), "crates": range(6, 25)},
            lambda n: n["each"] * n["crates"],
        ),
        Template(
            "{all} {what} are shared out evenly among {people} people. How many {what} does each "
            "of them get?",
            {"people": range(3, 25), "each": range(4, 37)},
            lambda n: n["each"],
            lambda n: {"all": n["people"] * n["each"]},
        ),
    ),
    2: (
        Template(
            "{who} buys {count} tickets at {price} dollars each and pays with {paid} dollars. How "
            "many dollars of change are due?",
            {"count": range(3, 13), "price": range(4, 39), "change": range(1, 61)},
            lambda n: n["change"],
            lambda n: {"paid": n["count"] * n["price"] + n["change"]},
        ),
        Template(
            "A shop has {n} boxes of {a} {what} and {m} boxes of {b} {what}. {broken} {what} are "
            "broken. How many whole {what} are there?",
            {
                "n": range(3, 13),
                "a": range(6, 31),
                "m": range(3, 13),
                "b": range(6, 31),
                "broken": range(5, 31),
            },
            lambda n: n["n"] * n["a"] + n["m"] * n["b"] - n["broken"],
        ),
        Template(
            "{who} is {age} years old, and {other} is {times} times as old. How old will {other} "
            "be in {years} years?",
            {"age": range(4, 16), "times": range(2, 6), "years": range(2, 21)},
            lambda n: n["age"] * n["times"] + n["years"],
        ),
        Template(
            "A truck drives {hours} hours at {fast} km per hour, then {more} hours at {slow} km "
            "per hour. How many km does it drive in all?",
            {
                "hours": range(2, 7),
                "slow": range(30, 66),
                "faster": range(5, 31),
                "more": range(2, 6),
            },
            lambda n: n["hours"] * (n["slow"] + n["faster"]) + n["more"] * n["slow"],
            lambda n: {"fast": n["slow"] + n["faster"]},
        ),
    ),
    3: (
        Template(
            "{who} works {hours} hours a day for {days} days at {wage} dollars an hour, and "
            "{extra} hours more at a rate that is 25% higher. Then {who} spends {cost} dollars. "
            "How many dollars are left of the wages?",
            {
                "hours": range(4, 9),
                "days": range(3, 7),
                "wage": range(12, 49, 4),
                "extra": range(2, 7),
                "cost": range(20, 91),
            },
            lambda n: (
                n["hours"] * n["days"] * n["wage"] + n["extra"] * n["wage"] * 5 // 4 - n["cost"]
            ),
        ),
        Template(
            "A lamp costs {price} dollars. A hotel orders {count} of them and gets {off}% off the "
            "total. Shipping adds {shipping} dollars, and a coupon then takes {coupon} dollars "
            "off. How many dollars does the hotel pay?",
            {
                "price": range(40, 241, 20),
                "count": range(3, 10),
                "off": range(10, 46, 5),
                "shipping": range(5, 26),
                "coupon": range(3, 16),
            },
            lambda n: (
                n["price"] * n["count"] * (100 - n["off"]) // 100 + n["shipping"] - n["coupon"]
            ),
        ),
        Template(
            "A tank holds {start} liters. A pipe adds {fill} liters a minute while a leak loses "
            "{drain} liters a minute. After {minutes} minutes the pipe is closed, and the leak "
            "goes on for {more} minutes. How many liters are in the tank then?",
            {
                "start": range(120, 301),
                "fill": range(15, 41),
                "drain": range(3, 13),
                "minutes": range(6, 21),
                "more": range(3, 11),
            },
            lambda n: n["start"] + n["minutes"] * (n["fill"] - n["drain"]) - n["more"] * n["drain"],
        ),
        Template(
            "A school has {classes} classes of {each} pupils. One in {part} of all pupils walks "
            "home, {absent} others are absent, and the rest, joined by {teachers} of the teachers, "
            "sit down at tables for {seats}, which are all full. How many tables are there?",
            {
                "classes": range(3, 9),
                "each": range(12, 49, 12),
                "part": range(2, 5),
                "absent": range(2, 10),
                "seats": range(2, 7),
            },
            lambda n: -(-_seated(n) // n["seats"]),
            lambda n: {"teachers": -_seated(n) % n["seats"]},
        ),
    ),
}

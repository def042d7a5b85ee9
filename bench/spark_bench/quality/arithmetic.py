"""Word problems of three levels: generated from a seed, with answers computed.

Nothing is from outside: no model can have been trained on the numbers. Level 1 takes one step,
level 2 two or three, level 3 four or five. All answers are whole numbers.
"""

from collections.abc import Callable
from random import Random

from spark_bench.quality.items import Item, ItemMessage

LEVELS = 3
PER_LEVEL = 100  # ± 10 points for a level, ± 6 for all three, at a score of 50 %
ASK = (
    "Solve this problem. Think step by step as far as you need, then end with one line of the form "
    '"Answer: N", where N is the number alone.\n\n'
)
# For models without a chat template: problems of other numbers than those that are asked.
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

# A problem of a level and its answer, drawn.
Draw = Callable[[Random], tuple[str, int]]


def arithmetic_items(seed: int, completion: bool = False) -> list[Item]:
    """The problems of a seed, levels in turn, so that any first part has all of them.

    completion: ask with worked examples, for a model without chat template
    """
    items = []
    for number in range(PER_LEVEL):
        for level in range(1, LEVELS + 1):
            random = Random(f"arith/{seed}/{level}/{number}")
            problem, answer = random.choice(DRAWN[level])(random)
            text = f"{EXAMPLES}Problem: {problem}\nSolution:" if completion else ASK + problem
            items.append(
                Item(
                    id=f"arith-{seed}-{level}-{number:03}",
                    group=f"level {level}",
                    messages=(ItemMessage("user", text),),
                    grader="number",
                    expected=str(answer),
                    fields={"stop": [STOP]} if completion else {},
                )
            )
    return items


def _gains(r: Random) -> tuple[str, int]:
    a, b = r.randint(12, 890), r.randint(12, 890)
    who, what = r.choice(NAMES), r.choice(THINGS)
    return f"{who} has {a} {what} and gets {b} more. How many {what} does {who} have now?", a + b


def _losses(r: Random) -> tuple[str, int]:
    b, left = r.randint(12, 480), r.randint(12, 480)
    who, what = r.choice(NAMES), r.choice(THINGS)
    return (
        f"{who} had {left + b} {what} and sold {b} of them. How many {what} are left?",
        left,
    )


def _packs(r: Random) -> tuple[str, int]:
    a, b, what = r.randint(6, 48), r.randint(6, 24), r.choice(THINGS)
    return f"A crate holds {a} {what}. How many {what} do {b} such crates hold?", a * b


def _shares(r: Random) -> tuple[str, int]:
    people, each, what = r.randint(3, 24), r.randint(4, 36), r.choice(THINGS)
    return (
        f"{people * each} {what} are shared out evenly among {people} people. How many {what} does "
        "each of them get?",
        each,
    )


def _change(r: Random) -> tuple[str, int]:
    count, price, who = r.randint(3, 12), r.randint(4, 38), r.choice(NAMES)
    paid = count * price + r.randint(1, 60)
    return (
        f"{who} buys {count} tickets at {price} dollars each and pays with {paid} dollars. How "
        "many dollars of change are due?",
        paid - count * price,
    )


def _two_packs(r: Random) -> tuple[str, int]:
    a, n, b, m, gone = (r.randint(*span) for span in ((6, 30), (3, 12), (6, 30), (3, 12), (5, 30)))
    what = r.choice(THINGS)
    return (
        f"A shop has {n} boxes of {a} {what} and {m} boxes of {b} {what}. {gone} {what} are "
        f"broken. How many whole {what} are there?",
        n * a + m * b - gone,
    )


def _older(r: Random) -> tuple[str, int]:
    young, times, years = r.randint(4, 15), r.randint(2, 5), r.randint(2, 20)
    one, other = r.sample(NAMES, 2)
    return (
        f"{one} is {young} years old, and {other} is {times} times as old. How old will {other} be "
        f"in {years} years?",
        young * times + years,
    )


def _trip(r: Random) -> tuple[str, int]:
    speed, hours, slower, more = (
        r.randint(40, 95),
        r.randint(2, 6),
        r.randint(5, 30),
        r.randint(2, 5),
    )
    return (
        f"A truck drives {hours} hours at {speed} km per hour, then {more} hours at "
        f"{speed - slower} km per hour. How many km does it drive in all?",
        hours * speed + more * (speed - slower),
    )


def _wages(r: Random) -> tuple[str, int]:
    wage, days, hours = 4 * r.randint(3, 12), r.randint(3, 6), r.randint(4, 8)
    extra, cost, who = r.randint(2, 6), r.randint(20, 90), r.choice(NAMES)
    total = days * hours * wage + extra * (wage * 5 // 4) - cost
    return (
        f"{who} works {hours} hours a day for {days} days at {wage} dollars an hour, and {extra} "
        f"hours more at a rate that is 25% higher. Then {who} spends {cost} dollars. How many "
        "dollars are left of the wages?",
        total,
    )


def _discount(r: Random) -> tuple[str, int]:
    price, count, off = 20 * r.randint(2, 12), r.randint(3, 9), r.choice((10, 20, 25, 30, 40))
    shipping, coupon = r.randint(5, 25), r.randint(3, 15)
    whole = price * count
    reduced = whole - whole * off // 100
    return (
        f"A lamp costs {price} dollars. A hotel orders {count} of them and gets {off}% off the "
        f"total. Shipping adds {shipping} dollars, and a coupon then takes {coupon} dollars off. "
        "How many dollars does the hotel pay?",
        reduced + shipping - coupon,
    )


def _tank(r: Random) -> tuple[str, int]:
    fill, drain, minutes = r.randint(15, 40), r.randint(3, 12), r.randint(6, 20)
    start, more = r.randint(50, 300), r.randint(3, 10)
    level = start + minutes * (fill - drain) - more * drain
    return (
        f"A tank holds {start} liters. A pipe adds {fill} liters a minute while a leak loses "
        f"{drain} liters a minute. After {minutes} minutes the pipe is closed, and the leak goes "
        f"on for {more} minutes. How many liters are in the tank then?",
        level,
    )


def _classes(r: Random) -> tuple[str, int]:
    groups, each, fraction = r.randint(3, 8), 12 * r.randint(1, 4), r.choice((2, 3, 4, 6))
    absent, per_table = r.randint(2, 9), r.randint(2, 6)
    pupils = groups * each
    walking = pupils // fraction
    seated = pupils - walking - absent
    extra = -seated % per_table
    return (
        f"A school has {groups} classes of {each} pupils. One in {fraction} of all pupils walks "
        f"home, {absent} others are absent, and the rest, joined by {extra} teachers, sit down at "
        f"tables for {per_table}. How many tables are filled?",
        (seated + extra) // per_table,
    )


DRAWN: dict[int, tuple[Draw, ...]] = {
    1: (_gains, _losses, _packs, _shares),
    2: (_change, _two_packs, _older, _trip),
    3: (_wages, _discount, _tank, _classes),
}

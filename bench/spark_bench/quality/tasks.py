"""The tasks by name: their items, and what they need."""

from collections.abc import Sequence

from spark_bench.options import QualityOptions
from spark_bench.quality.arithmetic import arithmetic_items
from spark_bench.quality.items import Item, items_sha256
from spark_bench.results.quality_schema import ItemSet
from spark_bench.run.reach import ReachedServer

GENERATED = "spark-bench"
# Most tokens of an answer, with room for its thoughts, by task.
MAX_TOKENS = {"arith": 2048}


def tokens_allowed(task: str) -> int:
    """Most tokens of an answer to an item of this task."""
    return MAX_TOKENS[task]


def build_items(task: str, options: QualityOptions, server: ReachedServer) -> list[Item]:
    """The items of a task. Raises BadInput for a file or a setting that it can't use."""
    completion = options.server.endpoint == "completions"
    items = arithmetic_items(options.seed, completion)
    return items[: options.limit]


def describe_items(task: str, options: QualityOptions, items: Sequence[Item]) -> ItemSet:
    """The items as the result has them."""
    return ItemSet(
        source=GENERATED,
        sha256=items_sha256(items),
        count=len(items),
        limit=options.limit,
        seed=options.seed if task == "arith" else None,
    )

"""The tasks by name: their items, and what they need."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from spark_bench.options import QualityOptions
from spark_bench.prompts.tokens import find_tokens
from spark_bench.quality.arithmetic import arithmetic_items
from spark_bench.quality.harness import HARNESS_TASKS, harness_items
from spark_bench.quality.items import QualityItem, items_sha256, read_items
from spark_bench.quality.needle import needle_items, needle_lengths
from spark_bench.quality.tool_calls import tool_items
from spark_bench.results.quality_schema import ItemSet
from spark_bench.run.reach import ReachedServer

# Most tokens of an answer, with room for its thoughts, by task.
MAX_TOKENS = {"arith": 2048, "tools": 1024, "needle": 1024, "items": 2048}
# The tasks whose items depend on --seed.
SEEDED = ("arith", "needle")


def build_items(
    task: str, options: QualityOptions, server: ReachedServer, data: Path | None
) -> tuple[list[QualityItem], ItemSet]:
    """The items of a task to send, and the same as the result has them.

    data: the file of a harness's problems; None: none is named
    Raises BadInput for a file or a setting that the task can't use.
    """
    source, lengths = "spark-bench", tuple[int, ...]()
    if task == "items":
        assert options.items
        items, source = read_items(options.items), options.items.name
    elif task in HARNESS_TASKS:
        items, source = harness_items(task, options.harness, data, options.limit)
    elif task == "tools":
        items = tool_items()
    elif task == "needle":
        answer = options.max_tokens or MAX_TOKENS[task]
        lengths = needle_lengths(options.lengths, server.context, answer)
        with closing(find_tokens(listed_tokenizer(server), server.http, server.model)) as tokens:
            items = needle_items(lengths, options.seed, tokens)
    else:
        items = arithmetic_items(options.seed, options.server.endpoint == "completions")
    items = items[: options.limit]
    return items, describe_items(task, options, items, source, lengths)


def listed_tokenizer(server: ReachedServer) -> Path | None:
    """The folder of the weights that the project deployed on this machine, if it did."""
    return Path(server.listing.tokenizer) if server.listing and server.listing.tokenizer else None


def describe_items(
    task: str,
    options: QualityOptions,
    items: Sequence[QualityItem],
    source: str,
    lengths: tuple[int, ...],
) -> ItemSet:
    """Items as the result has them."""
    return ItemSet(
        source=source,
        sha256=items_sha256(items),
        count=len(items),
        limit=options.limit,
        seed=options.seed if task in SEEDED else None,
        lengths=lengths,
    )

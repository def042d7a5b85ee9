"""Quality results with given outcomes, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from result_samples import a_provenance
from spark_bench.quality.grading import score_items
from spark_bench.results.codec import encode_result
from spark_bench.results.quality_schema import (
    AnsweredItem,
    ItemSet,
    QualityConfig,
    QualityProtocol,
    QualityResult,
    QualityUsage,
)

RIGHT, WRONG, SILENT = "1", "0", "-"
STARTED = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)


def an_item(number: int, outcome: str) -> AnsweredItem:
    """An item: right ("1"), wrong ("0"), or one whose answer is empty ("-")."""
    answer = {RIGHT: f"It comes to {number}.", WRONG: "I think it is 7777."}.get(outcome, "")
    return AnsweredItem(
        id=f"arith-{number:03}",
        group="one step",
        prompt_sha256=sha256(str(number).encode()).hexdigest(),
        expected=str(number),
        answer=answer,
        finish_reason="stop",
        empty=not answer,
        read={RIGHT: str(number), WRONG: "7777"}.get(outcome),
        right=outcome == RIGHT,
        prompt_tokens=80,
        output_tokens=9,
        seconds=1.5,
    )


def a_quality(outcomes: str = "1" * 8 + "00", **changes: Any) -> QualityResult:
    """A complete result: an item for each character of `outcomes` (see `an_item`).

    changes: fields of the result, or of its config, items or protocol
    """
    items = tuple(an_item(number, outcome) for number, outcome in enumerate(outcomes))
    result = QualityResult(
        id=changes.pop("id", "20261123T140000000Z-0000000a"),
        created=STARTED,
        status="complete",
        config=QualityConfig(
            task="arith",
            items=ItemSet(
                source="spark-bench",
                sha256=sha256(f"{len(items)}".encode()).hexdigest(),
                count=len(items),
                seed=1,
            ),
            protocol=QualityProtocol(
                endpoint="chat",
                thinking="off",
                temperature=0.0,
                max_tokens=512,
                timeout=600.0,
            ),
            url="http://spark-1:30000",
            model="openai/gpt-oss-120b",
            concurrency=8,
            answers_kept=True,
            command=("quality", "arith"),
        ),
        provenance=a_provenance(),
        score=score_items(items),
        usage=QualityUsage(
            seconds=20.0, prompt_tokens=80 * len(items), output_tokens=9 * len(items), thoughtful=0
        ),
        items=items,
    )
    config = result.config
    for name, value in changes.items():
        if name in result.__struct_fields__:
            result = replace(result, **{name: value})
        elif name in config.__struct_fields__:
            config = replace(config, **{name: value})
        elif name in config.items.__struct_fields__:
            config = replace(config, items=replace(config.items, **{name: value}))
        else:
            config = replace(config, protocol=replace(config.protocol, **{name: value}))
    return replace(result, config=config)


def a_quality_file(folder: Path, name: str, outcomes: str = "1" * 8 + "00", **changes: Any) -> Path:
    """The file of `a_quality`; its name is its id."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_bytes(encode_result(a_quality(outcomes, id=name, **changes)))
    return path


def quality_files(folder: Path, outcomes: Sequence[str], **changes: Any) -> list[str]:
    """Files of several results of one task, a minute apart, as arguments of a command."""
    return [
        str(
            a_quality_file(
                folder, f"q{number}", each, created=STARTED + timedelta(minutes=number), **changes
            )
        )
        for number, each in enumerate(outcomes)
    ]

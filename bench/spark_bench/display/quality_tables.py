"""What a user reads of a result of `spark-bench quality`, as rich tables."""

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table

from spark_bench.compare.compare_tables import agreement_text, points
from spark_bench.display.tables import labeled_lines
from spark_bench.expectations.published_scores import published_scores
from spark_bench.formats import digits, duration, plural
from spark_bench.results.quality_schema import Against, AnsweredItem, QualityResult, Score

# Wrong answers that are shown, and characters of each.
WRONG, WIDTH = 3, 160


def quality_tables(result: QualityResult) -> Iterator[RenderableType]:
    """One result: what was sent, the scores, then everything else in sentences."""
    config, server = result.config, result.provenance.server
    engine = " ".join(filter(None, (server.engine, server.version)))
    head = [("partial", result.reason)] if result.status == "partial" else []
    head += [
        (config.task, protocol_line(result)),
        ("server", ", ".join(filter(None, (config.url, config.model, engine)))),
    ]
    yield labeled_lines(head)
    yield score_table(result)
    lines = list(answer_lines(result.score))
    if result.against:
        lines += against_lines(result.against)
    lines += [("published", sentence) for sentence in published_scores(result)]
    lines.append(("tokens", usage_line(result)))
    lines += [("wrong", wrong_line(item)) for item in wrong_items(result)[:WRONG]]
    lines += [("note", note) for note in result.notes]
    yield labeled_lines(lines)


def protocol_line(result: QualityResult) -> str:
    """What was sent, and how: the protocol."""
    items, protocol = result.config.items, result.config.protocol
    temperature = "the server's" if protocol.temperature is None else f"{protocol.temperature:g}"
    seed = "" if items.seed is None else f", seed {items.seed}"
    thinking = "" if protocol.thinking == "default" else f", thinking {protocol.thinking}"
    return (
        f"{plural(items.count, 'item')} of {items.source} ({items.sha256[:8]}){seed}, "
        f"{protocol.endpoint}{thinking}, temperature {temperature}, at most {protocol.max_tokens} "
        "tokens each"
    )


def score_table(result: QualityResult) -> Table:
    """The score, and that of each group, with their intervals."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True, style="bold")
    for head in ("score", f"{result.score.level:.0%} interval", "right", "answered"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, score in {"all": result.score, **result.groups}.items():
        cells = (
            share_text(score.score),
            interval_text(score),
            str(score.right),
            str(score.answered),
        )
        table.add_row(name, *cells)
    return table


def share_text(share: float | None) -> str:
    """A share as text, with one decimal; "-" for none.

    >>> share_text(0.5), share_text(None)
    ('50.0 %', '-')
    """
    return "-" if share is None else f"{share * 100:.1f} %"


def interval_text(score: Score) -> str:
    """The interval of a score: "41.2 to 58.8 %"."""
    if score.low is None or score.high is None:
        return "-"
    return f"{score.low * 100:.1f} to {score.high * 100:.1f} %"


def answer_lines(score: Score) -> Iterator[tuple[str, str]]:
    """What is wrong with the answers besides being wrong."""
    shares = {
        "stopped by length": score.stopped_by_length,
        "empty": score.empty,
        "unreadable": score.unreadable,
    }
    yield "answers", ", ".join(f"{name} {share_text(share)}" for name, share in shares.items())
    if score.failed:
        requests = plural(score.failed, "request")
        yield "failed", f"{requests} without an answer: --resume sends again"


def against_lines(against: Against) -> Iterator[tuple[str, str]]:
    """How the answers differ from those of the result whose items were sent again."""
    change, within = points(against)
    yield (
        "against",
        f"{against.file}: {share_text(against.score)} there, {change} here (95 %: {within}), p = "
        f"{digits(against.p)} by McNemar's test",
    )
    yield "agreement", agreement_text(against, "there", "here")


def usage_line(result: QualityResult) -> str:
    """Tokens and time."""
    usage = result.usage
    if usage.output_tokens is None:
        return f"the server counts none; {duration(usage.seconds)}"
    rate = usage.output_tokens / usage.seconds if usage.seconds else None
    return (
        f"{usage.prompt_tokens or 0:,} in, {usage.output_tokens:,} out in "
        f"{duration(usage.seconds)} ({digits(rate, 'tok/s')})"
    )


def wrong_items(result: QualityResult) -> list[AnsweredItem]:
    """The items whose answer is wrong."""
    return [item for item in result.items if item.right is False]


def wrong_line(item: AnsweredItem) -> str:
    """A wrong answer in one line, its end if it is long."""
    if item.empty:
        got = "nothing"
    elif item.read is not None:
        got = item.read
    else:
        answer = " ".join((item.answer or "").split())
        got = f"…{answer[-WIDTH:]}" if len(answer) > WIDTH else answer
        got = f"unreadable: {got}" if got else "unreadable"
    return f"{item.id}: expected {item.expected[:WIDTH]}, got {got[:WIDTH]}"

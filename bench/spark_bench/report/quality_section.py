"""The page's scores: of what serves each model, per task, with its answers' worst examples.

A score belongs to what served: the same launch of every rank where the project deployed it, else
the same URL, model and settings. So a run has the scores of its server, newest first of each task.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from spark_bench.compare.compare_tables import agreement_text, percent, points
from spark_bench.compare.runs import flatten
from spark_bench.compare.scores import (
    ScorePart,
    proven_losses,
    score_difference,
    score_part,
    why_unusable,
)
from spark_bench.expectations.published_scores import published_scores
from spark_bench.formats import plural, with_sign
from spark_bench.history.entry import HistoryEntry, entry_of, server_key
from spark_bench.report import page_table
from spark_bench.results.provenance_schema import Provenance
from spark_bench.results.quality_schema import Against, AnsweredItem, QualityResult, Score

EXAMPLES = 3  # wrong answers that are shown of each score
MOST_SHOWN = 12  # scores whose wrong answers are shown
ANSWER_CHARACTERS = 240  # of an answer, from its end


class QualityRun(Struct, frozen=True, kw_only=True):
    """One quality result.

    server: what served (see `server_key`)
    settings: what its server was started with, flattened
    reason: why it is partial; "" if it is complete
    examples: some of its wrong answers
    published: published scores beside it, or why they are not compared, as sentences
    """

    entry: HistoryEntry
    part: ScorePart
    score: Score
    server: str
    settings: dict[str, Any]
    reason: str
    examples: tuple[AnsweredItem, ...]
    against: Against | None
    published: tuple[str, ...]


class WrongAnswers(Struct, frozen=True):
    """Some wrong answers to a task; label: of the model; answers: (item, expected, answered)."""

    label: str
    task: str
    wrong: str
    answers: tuple[tuple[str, str, str], ...]


class QualitySection(Struct, frozen=True):
    """table: a row per score; notes: how answers agree, and what is left out."""

    table: page_table.Table
    examples: tuple[WrongAnswers, ...]
    notes: tuple[str, ...]


def quality_run(result: QualityResult, path: Path) -> QualityRun:
    """What the page needs of the quality result in the file at `path`."""
    config = result.config
    wrong = [item for item in result.items if item.right is False]
    # Spread over the task: the first ones are of one group.
    every = max(1, len(wrong) // EXAMPLES)
    return QualityRun(
        entry=entry_of(result, path),
        part=score_part(path, result),
        score=result.score,
        server=server_key(result.provenance, config.url, config.model),
        settings=server_settings(result.provenance),
        reason=result.reason if result.status == "partial" else "",
        examples=tuple(wrong[::every][:EXAMPLES]),
        against=result.against,
        published=tuple(published_scores(result)),
    )


def server_settings(provenance: Provenance) -> dict[str, Any]:
    """What a server was started with, flattened."""
    launch = flatten(to_builtins(provenance.deployment.launch)) if provenance.deployment else {}
    return flatten(to_builtins(provenance.server.settings)) | launch


ByServer = dict[str, dict[str, QualityRun]]


def newest_scores(scores: Sequence[QualityRun]) -> ByServer:
    """The newest result of each task, by server; a partial one only if there is no other."""
    newest: ByServer = {}
    for each in sorted(scores, key=lambda s: (s.entry.status == "complete", s.entry.created)):
        if each.score.score is not None:
            newest.setdefault(each.server, {})[each.entry.profile] = each
    return newest


def wrong_servers(newest: ByServer, labels: Mapping[str, str]) -> dict[str, str]:
    """Why what serves can't be used, by server, if its answers can't.

    labels: of the servers, unique within a model
    """
    problems: dict[str, list[str]] = {}
    models: dict[str, list[str]] = {}
    for server, tasks in newest.items():
        models.setdefault(next(iter(tasks.values())).entry.model, []).append(server)
        for each in tasks.values():
            if problem := why_unusable(each.part):
                problems.setdefault(server, []).append(problem)
    for servers in models.values():
        variants = {s: [each.part for each in newest[s].values()] for s in servers}
        for server, sentence in proven_losses(variants, names=labels).items():
            problems.setdefault(server, []).append(sentence)
    return {server: "; ".join(sentences) for server, sentences in problems.items()}


Labels = Mapping[str, tuple[str, str]]  # each server's model and variant


def quality_section(
    scores: Sequence[QualityRun],
    labels: Labels,
    wrong: Mapping[str, str],
    warned: Mapping[str, str],
) -> QualitySection | None:
    """The section; None if there are no scores.

    wrong: by server, why its answers can't be used; warned: what its deploy's probes doubt
    """
    newest = newest_scores(scores)
    shown = [
        each
        for server in sorted(newest, key=lambda server: labels[server])
        for each in newest[server].values()
    ]
    if not shown:
        return None
    notes = [
        f"{' '.join(labels[each.server]).strip()}, {each.entry.profile}, against "
        f"{each.against.file}: {with_sign(100 * each.against.difference)} points "
        f"({with_sign(100 * each.against.low)} to {with_sign(100 * each.against.high)}); "
        f"{agreement_text(each.against, 'there', 'here')}."
        for each in shown
        if each.against
    ]
    notes += [
        f"{' '.join(labels[each.server]).strip()}, {each.entry.profile}: {sentence}."
        for each in shown
        for sentence in each.published
    ]
    if older := len(scores) - len(shown):
        notes.append(f"{plural(older, 'older or incomplete result')} of the same are left out.")
    judgments = {
        id(each): _judgment(each, wrong.get(each.server, ""), warned.get(each.server, ""))
        for each in shown
    }
    table = _score_table(shown, labels, judgments)
    return QualitySection(table, tuple(_examples(shown, labels, wrong)), tuple(notes))


def _score_table(
    shown: Sequence[QualityRun], labels: Labels, judgments: Mapping[int, page_table.Cell]
) -> page_table.Table:
    """A row per score. judgments: the last cell of each, by the score's identity"""
    best = _best(shown)
    several = any(best[each.entry.model, each.entry.profile] is not each for each in shown)
    columns = (
        page_table.Column("Model", numeric=False),
        page_table.Column("Task", numeric=False),
        page_table.Column("Score", "%"),
        page_table.Column("Right"),
        *((page_table.Column("To the best", "pts"),) if several else ()),
        page_table.Column("Cut off", "%"),
        page_table.Column("Empty", "%"),
        page_table.Column("Unreadable", "%"),
        page_table.Column("Answers", numeric=False),
    )
    rows = tuple(
        (
            page_table.Cell(labels[each.server][0], detail=labels[each.server][1]),
            page_table.Cell(each.entry.profile, detail=each.entry.load),
            _score_cell(each),
            page_table.Cell(f"{each.score.right:,} of {each.score.answered:,}", each.score.right),
            *((_difference(best, each),) if several else ()),
            *(
                page_table.NONE if share is None else page_table.Cell(percent(share), share)
                for share in (
                    each.score.stopped_by_length,
                    each.score.empty,
                    each.score.unreadable,
                )
            ),
            judgments[id(each)],
        )
        for each in shown
    )
    return page_table.Table("Scores by model and task", columns, rows)


def score_columns(servers: Iterable[Mapping[str, QualityRun]]) -> list[page_table.Column]:
    """A column for each task that any of these servers has a score of."""
    tasks = dict.fromkeys(task for server in servers for task in server)
    return [page_table.Column(task, "%") for task in tasks]


def score_cells(
    columns: Sequence[page_table.Column], tasks: Mapping[str, QualityRun], wrong: str
) -> list[page_table.Cell]:
    """A server's cells in `score_columns`; wrong: why its answers can't be used."""
    cells = []
    for column in columns:
        if (each := tasks.get(column.head)) is None or each.score.score is None:
            cells.append(page_table.NONE)
            continue
        text = percent(each.score.score) + (", wrong" if wrong else "")
        tone: page_table.Tone = "bad" if wrong else ""
        cells.append(page_table.Cell(text, each.score.score, "", "#quality", tone))
    return cells


def _best(shown: Sequence[QualityRun]) -> dict[tuple[str, str], QualityRun]:
    """The best score of each model and task, of those that are comparable with the first one."""
    best: dict[tuple[str, str], QualityRun] = {}
    for each in shown:
        key = each.entry.model, each.entry.profile
        if key not in best or (each.score.score or 0.0) > (best[key].score.score or 0.0):
            best[key] = each
    return best


def _difference(best: Mapping[tuple[str, str], QualityRun], each: QualityRun) -> page_table.Cell:
    other = best[each.entry.model, each.entry.profile]
    same = each.part.config == other.part.config
    apart = score_difference([other.part], [each.part]) if other is not each and same else None
    if apart is None:
        return page_table.NONE
    change, within = points(apart)
    return page_table.Cell(change.removesuffix(" pts"), apart.difference, within)


def _score_cell(each: QualityRun) -> page_table.Cell:
    score = each.score
    assert score.score is not None and score.low is not None and score.high is not None
    within = f"{percent(score.low)} to {percent(score.high)}"
    return page_table.Cell(percent(score.score), score.score, within)


def _judgment(each: QualityRun, wrong: str, warned: str) -> page_table.Cell:
    if wrong:
        return page_table.Cell("wrong", detail=wrong, tone="bad")
    if each.reason:
        return page_table.Cell("partial", detail=each.reason, tone="warn")
    if warned:
        return page_table.Cell("warned by the probes", detail=warned, tone="warn")
    return page_table.NONE


def _examples(
    shown: Sequence[QualityRun], labels: Labels, wrong: Mapping[str, str]
) -> list[WrongAnswers]:
    """Wrong answers, those of servers that can't be used first."""
    ordered = sorted(shown, key=lambda each: each.server not in wrong)
    return [
        WrongAnswers(
            " ".join(labels[each.server]).strip(),
            each.entry.profile,
            wrong.get(each.server, ""),
            tuple((item.id, item.expected, _answered(item)) for item in each.examples),
        )
        for each in ordered
        if each.examples
    ][:MOST_SHOWN]


def _answered(item: AnsweredItem) -> str:
    """What came of an item: what was read, and the end of the answer."""
    calls = " ".join(f"{call.name}({call.arguments})" for call in item.calls)
    text = " ".join(f"{item.answer or ''} {calls}".split())
    if not text:
        return "nothing" if item.answer is not None else f"{item.read or 'unreadable'} (not kept)"
    end = f"…{text[-ANSWER_CHARACTERS:]}" if len(text) > ANSWER_CHARACTERS else text
    return f"{item.read}: {end}" if item.read and item.read != text else end

"""A whole task: reach the server, send items, grade the answers, save, go on where one ended."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from spark_bench import errors, record
from spark_bench.client.tally import Progress
from spark_bench.compare.scores import describe_against
from spark_bench.display.progress import ProgressDisplay
from spark_bench.options import QualityOptions, QualityOutcome
from spark_bench.protocol import failures
from spark_bench.quality import grading
from spark_bench.quality.asking import ItemAsker, read_harness_line
from spark_bench.quality.data_file import find_data
from spark_bench.quality.harness import (
    HARNESS_MAX_TOKENS,
    HARNESS_PROMPT,
    HARNESS_TASKS,
    HARNESS_TIMEOUT,
    HarnessRun,
)
from spark_bench.quality.items import QualityItem
from spark_bench.quality.tasks import MAX_TOKENS, build_items
from spark_bench.results import files, quality_schema, redact
from spark_bench.results.provenance import gather_provenance
from spark_bench.results.provenance_schema import Provenance
from spark_bench.results.quality_schema import AnsweredItem, QualityResult
from spark_bench.run.context import Interrupts, interruptible
from spark_bench.run.reach import ReachedServer, reach
from spark_bench.run.save import write_or_spare

# What a killed run can lose: the file is written anew this often, in seconds, and at most for this
# share of the time.
SAVE_SECONDS, SAVE_SHARE = 10.0, 0.05
# Give up on a server after this many failed requests in a row.
FAILURES_IN_A_ROW = 10
# A share of answers cut off above which a note says so.
MOST_CUT_OFF = 0.02


def evaluate(options: QualityOptions, show: ProgressDisplay) -> QualityOutcome:
    """Carry out `spark-bench quality`. Raises BenchError if there can be no result."""
    results, written, notes = list[QualityResult](), list[Path](), list[str]()
    misplaced = False
    data = find_data(options.data, options.data_sha256, show.step) if options.data else None
    with (
        reach(options.server, show.step) as server,
        interruptible(server.recorder.stop) as interrupts,
    ):
        for note in server.notes:
            show.say(note)
        # All items are built first: what can't be sent is refused before hours of sending.
        evaluations = [
            TaskEvaluation(task, options, server, interrupts, data) for task in options.tasks
        ]
        for evaluation in evaluations:
            if server.recorder.stopped:
                break
            try:
                evaluation.ask_all(show)
            except errors.BenchError as error:
                if not results:
                    raise
                notes.append(error.message)
                break
            result = evaluation.result()
            path, problems = write_or_spare(
                result, evaluation.path, history_too=options.output.history
            )
            results.append(result)
            written += [path] if path else []
            misplaced |= path is None
            notes += problems
    incomplete = len(results) < len(options.tasks) or any(r.status == "partial" for r in results)
    return QualityOutcome(
        tuple(results), tuple(written), interrupts.came, misplaced, incomplete, tuple(notes)
    )


class TaskEvaluation:
    """One task against one server, from its items to its result.

    path: the result's file, which is written while items are being sent
    answered: by id, the items that were sent, with what came of them
    """

    def __init__(
        self,
        task: str,
        options: QualityOptions,
        server: ReachedServer,
        interrupts: Interrupts,
        data: Path | None,
    ) -> None:
        """Raises BadInput if the items can't be had, or don't go with a result to be resumed."""
        self._options, self._server, self._interrupts = options, server, interrupts
        self._items, item_set = build_items(task, options, server, data)
        self.answered: dict[str, AnsweredItem] = {}
        self._ended, self._in_a_row = "", 0
        self._seconds, self._asking_since = 0.0, 0.0
        self._saved_at, self._save_took = -SAVE_SECONDS, 0.0
        self._path: Path | None = None
        provenance = gather_provenance(
            server.http,
            server.url,
            model=server.model,
            project=options.server.project if server.listing else None,
            listing=server.listing,
        )
        if options.against:
            check_repeated(*options.against, item_set)
        if options.resume:
            self._path, begun = options.resume
            check_resumed(self._path, begun, item_set, provenance, server.model)
            self._id, self._config, self._provenance = begun.id, begun.config, begun.provenance
            self._seconds = begun.usage.seconds
            self.answered = {item.id: item for item in begun.items if not item.failure}
        else:
            self._id = files.new_id(datetime.now(UTC))
            self._config = describe_quality(task, options, server, item_set)
            self._provenance = provenance

    @property
    def path(self) -> Path:
        """The result's file; its name is reserved when it is first needed."""
        if self._path is None:
            task, output = self._config.task, self._options.output.output
            if output is None:
                self._path = files.default_path(task, datetime.now(), kind="quality")
            elif len(self._options.tasks) > 1:
                self._path = output.with_stem(f"{output.stem}_{task}")
            else:
                self._path = output
        return self._path

    def ask_all(self, show: ProgressDisplay) -> None:
        """Send every item that has no answer yet; ends early at Ctrl-C, or if requests only fail.

        Raises Unreachable if nothing was answered.
        """
        todo = [item for item in self._items if item.id not in self.answered]
        if not todo:
            return
        self._asking_since = time.monotonic()
        show.start(len(todo), self._config.task, "item")
        if self._config.task in HARNESS_TASKS:
            self._ask_through_harness(todo, show)
        else:
            self._ask_ourselves(todo, show)
        show.end()
        self._seconds += time.monotonic() - self._asking_since
        self._asking_since = 0.0
        if self._interrupts.came:
            self._ended = "stopped by Ctrl-C"
        if not any(not item.failure for item in self.answered.values()):
            if self._interrupts.came:
                raise KeyboardInterrupt  # nothing is lost
            first = next(iter(self.answered.values()), None)
            why = (
                f"{first.detail or first.failure}; {failures.cure(first.failure)}" if first else ""
            )
            raise errors.Unreachable(
                f"{self._server.url}: no item of {self._config.task} was answered: "
                f"{why or self._ended}"
            )

    def _ask_ourselves(self, todo: Sequence[QualityItem], show: ProgressDisplay) -> None:
        """Send the items, and grade what comes back."""
        # Secrets in --extra-body are sent, and hidden in the result.
        asker = ItemAsker(
            self._server,
            self._config.protocol,
            self._options.server.extra_body,
            self._config.answers_kept,
        )
        with suppress(errors.Unreachable):
            self._server.recorder.open(min(self._options.concurrency, len(todo)))
            if self._config.answers_kept:
                asker.request_tokens(todo[0])
        load = asker.load(todo, self._options.concurrency)

        def take(exchange: record.Exchange) -> None:
            if exchange.ended not in (record.Ended.INTERRUPTED, record.Ended.UNSENT):
                index = exchange.index
                self._add(asker.read(exchange, load.jobs[index], todo[index]))

        def report(progress: Progress) -> None:
            show.update(replace(progress, remark=self._remark()))
            self._interrupts.watch()

        self._server.recorder.record(load, report, take).store.close()

    def _ask_through_harness(self, todo: Sequence[QualityItem], show: ProgressDisplay) -> None:
        """Have SGLang's harness send and grade the items."""
        by_id, began, done = {item.id: item for item in todo}, time.monotonic(), 0
        run = HarnessRun(
            self._config.task,
            self._options.harness,
            todo,
            self._config.protocol,
            url=self._server.url,
            model=self._server.model,
            api_key=self._server.api_key,
            concurrency=self._options.concurrency,
        )
        for line in run.answers(lambda: self._interrupts.came or self._server.recorder.stopped):
            if line is not None and line.id in by_id:
                done += 1
                self._add(
                    read_harness_line(line, by_id[line.id], self._server, self._config.answers_kept)
                )
            seconds = time.monotonic() - began
            show.update(Progress(seconds, len(todo), done, done, 0, 0, 0, remark=self._remark()))
        self._ended = self._ended or run.ended

    def _add(self, item: AnsweredItem) -> None:
        """Note what came of an item, save now and then, and give up if requests only fail."""
        self.answered[item.id] = item
        self._in_a_row = self._in_a_row + 1 if item.failure else 0
        if self._in_a_row == FAILURES_IN_A_ROW:
            self._ended = f"{FAILURES_IN_A_ROW} requests in a row failed"
            self._server.recorder.stop()
        if item.failure:
            return
        self._interrupts.worth = True
        since = time.monotonic() - self._saved_at
        if since > SAVE_SECONDS and since > self._save_took / SAVE_SHARE:
            began = time.monotonic()
            with suppress(files.NotSaved):  # the last attempt reports it
                files.write_result(self.result(), self.path)
            self._saved_at = time.monotonic()
            self._save_took = self._saved_at - began

    def _remark(self) -> str:
        """The score so far, for the progress display."""
        so_far = grading.score_items(self.answered.values())
        if so_far.score is None:
            return "no answer yet"
        return f"{so_far.right} of {so_far.answered} right ({so_far.score:.0%})"

    def result(self) -> QualityResult:
        """The result as far as items were sent."""
        items = tuple(self.answered[i.id] for i in self._items if i.id in self.answered)
        total = grading.score_items(items)
        asking = time.monotonic() - self._asking_since if self._asking_since else 0.0
        result = QualityResult(
            id=self._id,
            created=datetime.now(UTC),
            status="complete" if total.answered == len(self._items) else "partial",
            reason=self._reason(items, total),
            config=self._config,
            provenance=self._provenance,
            score=total,
            groups=grading.score_groups(items),
            usage=grading.add_usage(items, self._seconds + asking),
            items=items,
            notes=tuple(
                dict.fromkeys((*self._server.notes, *score_notes(items, self._config.protocol)))
            ),
        )
        if not self._options.against:
            return result
        return replace(result, against=describe_against(*self._options.against, result))

    def _reason(self, items: Sequence[AnsweredItem], total: quality_schema.Score) -> str:
        if total.answered == len(self._items):
            return ""
        failed = next((f": {i.failure}: {i.detail}" for i in items if i.failure), "")
        return (
            f"{self._ended or 'it did not finish'}: {total.answered} of {len(self._items)} items "
            f"have an answer" + (f", {total.failed} requests failed{failed}" if failed else "")
        )


def describe_quality(
    task: str, options: QualityOptions, server: ReachedServer, items: quality_schema.ItemSet
) -> quality_schema.QualityConfig:
    """What is sent, and how, as the result has it."""
    return quality_schema.QualityConfig(
        task=task,
        items=items,
        protocol=quality_schema.QualityProtocol(
            endpoint="completions" if options.server.endpoint == "completions" else "chat",
            thinking=options.thinking,  # type: ignore[arg-type] # one of its three words
            temperature=options.server.temperature,
            max_tokens=options.max_tokens or most_tokens(task, server.context),
            timeout=HARNESS_TIMEOUT if task in HARNESS_TASKS else options.timeout,
            extra_body=redact.clean_body(options.server.extra_body),
        ),
        url=redact.without_credentials(server.url),
        model=server.model,
        concurrency=options.concurrency,
        answers_kept=options.answers,
        command=redact.clean_command(["spark-bench", *sys.argv[1:]]),
    )


def most_tokens(task: str, context: int | None) -> int:
    """Most tokens of an answer. What sgl-eval requests is not fitted into the context: an engine
    would refuse it."""
    if task not in HARNESS_TASKS:
        return MAX_TOKENS[task]
    return (
        min(HARNESS_MAX_TOKENS, max(1, context - HARNESS_PROMPT)) if context else HARNESS_MAX_TOKENS
    )


def check_resumed(
    path: Path,
    begun: QualityResult,
    items: quality_schema.ItemSet,
    now: Provenance,
    model: str,
) -> None:
    """Raise BadInput unless the rest of a result can be sent to what serves now.

    items, now, model: what would be sent now, and what serves now
    """
    before = begun.provenance
    differing: dict[str, tuple[Any, Any]] = {
        "the model": (begun.config.model, model),
        "the engine": (before.server.engine, now.server.engine),
        "the engine's version": (before.server.version, now.server.version),
    }
    if before.deployment and now.deployment:
        differing |= {
            "the weights' revision": (before.deployment.revision, now.deployment.revision),
            "what the ranks run (spec)": (
                [rank.spec for rank in before.deployment.ranks],
                [rank.spec for rank in now.deployment.ranks],
            ),
        }
    for what, (then, here) in differing.items():
        if then != here:
            raise errors.BadInput(
                f"--resume {path}: {what} was {then}, and is {here} now: the answers would be of "
                "two models; start again without --resume"
            )
    if items.sha256 != begun.config.items.sha256:
        cure = (
            "give the same file"
            if begun.config.task == "items" or begun.config.task in HARNESS_TASKS
            else f"it was begun by spark-bench {before.client.version}, or with another tokenizer; "
            "start again without --resume"
        )
        raise errors.BadInput(
            f"--resume {path}: its items have the hash {begun.config.items.sha256[:8]}, those of "
            f"now {items.sha256[:8]}: {cure}"
        )


def check_repeated(path: Path, before: QualityResult, items: quality_schema.ItemSet) -> None:
    """Raise BadInput unless these are the items of the result that they are set against."""
    if before.config.items.sha256 != items.sha256:
        raise errors.BadInput(
            f"--against {path}: its items ({before.config.items.source}, "
            f"{before.config.items.sha256[:8]}) are not those that would be sent now "
            f"({items.source}, {items.sha256[:8]}): give the same file or, of another tokenizer or "
            "version of spark-bench, measure it again"
        )


def score_notes(
    items: Sequence[AnsweredItem], protocol: quality_schema.QualityProtocol
) -> list[str]:
    """Sentences to take into account when reading the score; none if all is well."""
    total, notes = grading.score_items(items), list[str]()
    if (total.stopped_by_length or 0.0) > MOST_CUT_OFF:
        cut = sum(item.finish_reason == quality_schema.CUT_OFF for item in items)
        notes.append(
            f"{cut} of {total.answered} answers were cut off after {protocol.max_tokens} tokens or "
            "at the context's end: --max-tokens allows more"
        )
    thoughtful = sum(item.thoughts > 0 for item in items)
    if protocol.thinking == "off" and thoughtful:
        notes.append(
            f"thinking was switched off, and {thoughtful} of {total.answered} answers have "
            "thoughts all the same: give the switch of this model's template with --extra-body"
        )
    inside = sum("</think>" in (item.answer or "") for item in items)
    if inside:
        notes.append(
            f"{inside} of {total.answered} answers have thoughts in their text: what follows them "
            "was graded; serve with the model's reasoning parser"
        )
    return notes

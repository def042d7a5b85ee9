"""The result file of `spark-bench quality`: one task's items, answers and score.

Each class is an object of the file and each field a key of it; docs/quality.md explains them to
users, and the docstrings here become the descriptions in quality.schema.json.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from spark_bench.results.provenance_schema import Provenance

QUALITY_VERSION: Final = 1
QUALITY_KIND: Final = "spark-bench quality"
# The finish_reason of an answer that a limit cut off, in every engine.
CUT_OFF: Final = "length"

_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Change = Annotated[float, Meta(ge=-1, le=1)]
_Seconds = Annotated[float, Meta(ge=0, le=1e12)]
_Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class QualityResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well what serves answered the items of one task.

    id: unique; sorting ids as text sorts results by time; a resumed one keeps its id
    created: when it was written (UTC, ISO 8601)
    status: "partial" if an item has no answer
    reason: why it is partial, such as "stopped by Ctrl-C"; "" if it is complete
    config: what was sent, and how
    provenance: what it was measured with
    score: over all answered items
    groups: the same of each part of the task, such as a level, in the task's order
    usage: time and tokens
    against: the result whose items these are, and how its answers differ; null: none was named
    items: the items that were sent, in the task's order
    notes: sentences to take into account when reading the score
    """

    schema_version: Literal[1] = QUALITY_VERSION
    kind: Literal["spark-bench quality"] = QUALITY_KIND
    id: str
    created: datetime
    status: Literal["complete", "partial"]
    reason: str = ""
    config: QualityConfig
    provenance: Provenance
    score: Score
    groups: dict[str, Score] = {}
    usage: QualityUsage
    against: Against | None = None
    items: tuple[AnsweredItem, ...]
    notes: tuple[str, ...] = ()


class QualityConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was sent, and how.

    task: "arith", "tools", "needle", "items", or that of another harness, such as "gsm8k"
    items: the items
    protocol: how they were sent
    url: the server's URL, without user and password
    model: id of the requested model; "": the server chose
    concurrency: most requests in flight
    answers_kept: whether `items` have the answers
    command: arguments of the command line, with secrets hidden
    """

    task: str
    items: ItemSet
    protocol: QualityProtocol
    url: str
    model: str
    concurrency: _Count
    answers_kept: bool
    command: tuple[str, ...]


class ItemSet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The items of a task; two sets are the same if their hashes are.

    source: "spark-bench" (generated), a file's name, or the harness that has them, with its version
    sha256: SHA-256 of all `count` items: messages, tools, graders and expected answers, in hex
    count: how many there are to send
    limit: the --limit that made it so few; null: none
    seed: of the generated ones; null: they do not depend on one
    lengths: of `needle`, tokens of its texts; empty: the task has none
    """

    source: str
    sha256: _Sha256
    count: _Count
    limit: _Count | None = None
    seed: _Count | None = None
    lengths: tuple[_Count, ...] = ()


class QualityProtocol(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How items were sent; scores compare only where the protocol is the same.

    endpoint: "chat", with the model's chat template, or "completions", with worked examples
    thinking: "off" and "on" were requested of the chat template; "default": nothing was
    temperature: of sampling; null: the server's default
    max_tokens: most tokens of an answer, its thoughts included
    timeout: time limit of one request, in seconds
    extra_body: fields that the user added to each request, with secrets hidden
    """

    endpoint: Literal["chat", "completions"]
    thinking: Literal["default", "on", "off"]
    temperature: float | None
    max_tokens: _Count
    timeout: _Seconds
    extra_body: dict[str, Any] = {}


class Score(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A score. Every share is of the answered items; null: none is answered.

    answered, failed: items with an answer, and items whose request failed
    right: items whose answer is right
    score: the share of right answers
    low, high: where the score lies with probability `level`, by Wilson's interval
    stopped_by_length: the share of answers cut off at max_tokens or the context's end
    empty: the share of answers without text and without tool call
    unreadable: the share of answers, not empty, in which no answer of the requested form was found
    """

    answered: _Count
    failed: _Count
    right: _Count
    score: _Share | None
    low: _Share | None
    high: _Share | None
    level: _Share = 0.95
    stopped_by_length: _Share | None
    empty: _Share | None
    unreadable: _Share | None


class QualityUsage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time and tokens of all answered items.

    seconds: while items were being sent; a resumed result has the sum
    prompt_tokens, output_tokens: by the server's count, thoughts included; null: it has none
    thoughtful: items whose answer had thoughts in a field of their own
    """

    seconds: _Seconds
    prompt_tokens: _Count | None
    output_tokens: _Count | None
    thoughtful: _Count


class AnsweredCall(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool call of an answer: the tool's name, and its arguments as the server sent them."""

    name: str
    arguments: str


class AnsweredItem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One item, and what came of it.

    id: its name in the task
    group: the part of the task that it belongs to
    prompt_sha256: SHA-256 of its messages and tools, in hex
    expected: the right answer, as text
    answer: the answer's text without thoughts, with secrets hidden; null: not kept, or none came
    cut: the end of `answer` is left out, since it is long; it was graded as a whole
    calls: its tool calls
    thoughts: characters of thoughts that came in a field of their own
    finish_reason: why generation ended, as the server says
    tokens: the first tokens that were generated, thoughts included, as text, with secrets hidden;
        left out: the server sends none, or answers were not kept
    empty: it has neither text nor tool call
    read: what was read from the answer; null: nothing that has the form of an answer
    right: whether that is right; null: the request failed
    failure, detail: why the request failed, and the server's message; "" if it did not
    prompt_tokens, output_tokens: by the server's count; null: it has none
    seconds: from the request to the end of its response
    """

    id: str
    group: str
    prompt_sha256: _Sha256
    expected: str
    answer: str | None = None
    cut: bool = False
    calls: tuple[AnsweredCall, ...] = ()
    thoughts: _Count = 0
    finish_reason: str = ""
    tokens: tuple[str, ...] | UnsetType = UNSET
    empty: bool = False
    read: str | None = None
    right: bool | None = None
    failure: str = ""
    detail: str = ""
    prompt_tokens: _Count | None = None
    output_tokens: _Count | None = None
    seconds: _Seconds = 0.0


class Matched(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far two answers to each of the same items agree.

    answers: items with an answer in both results
    same_value: those with equal answers, or of which the same was read
    same_text: those whose answers are equal, word for word; null: answers were not kept
    median_place, earliest_place: over the other answers, the place of the first token or word that
        differs, from 1; null: there are none, or answers were not kept. A place behind the tokens
        that are kept counts as the one after them
    places: "token" if both results have the tokens of all these answers; left out: by word
    """

    answers: _Count
    same_value: _Count
    same_text: _Count | None
    median_place: float | None
    earliest_place: _Count | None
    places: Literal["token"] | UnsetType = UNSET


class Against(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result whose items were sent again (--against), and what has changed since.

    id, file, model: of that result: its id, its file's name, and the model
    score: its score, over the items that are answered in both
    items: how many those are
    lost, won: items that were right there and are wrong here, and the reverse
    difference: this score less that one, over these items
    low, high: where the difference lies with probability 95 %, by Tango's interval
    p: the two-sided p-value of McNemar's test
    matched: how far the answers agree
    """

    id: str
    file: str
    model: str
    score: _Share
    items: _Count
    lost: _Count
    won: _Count
    difference: _Change
    low: _Change
    high: _Change
    p: _Share
    matched: Matched

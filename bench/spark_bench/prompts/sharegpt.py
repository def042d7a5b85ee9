"""Recorded conversations in ShareGPT's format, from a file on this machine.

The file is a JSON list (or has one object per line) of `{"conversations": [{"from": "human",
"value": …}, {"from": "gpt", "value": …}, …]}`. Also accepted: "conversation" or "messages" for the
list, "role" and "content" in a message, the roles "user" and "assistant", and a content that is a
list of text parts.

Of each conversation, only the first question with an answer right after it is asked; the recorded
answer's length is the length to generate. As in sglang 0.5.23 (benchmark/datasets/sharegpt.py),
conversations without such a pair are skipped, and so are questions or answers below 2 tokens, and
pairs that together are longer than the context. Unlike there, the question is always a human's,
whatever message comes first. Rows of any other kind are skipped and counted: tool calls without a
text, images, anything that is no conversation.
"""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from random import Random

from spark_bench import errors, record
from spark_bench.prompts.compose import Overhead
from spark_bench.prompts.tokens import Tokens

WINDOW = 1 << 20  # characters read at once
ENTRY = 1 << 24  # most characters of an entry; with more, the file is something else
BLANK = " \t\r\n"
SHORTEST = 2  # fewest tokens of a question and of an answer, as in sglang
SPARE = 64  # entries drawn beyond twice those requested, as some are filtered out
WANTED = (
    'expected {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}'
)
LISTS = ("conversations", "conversation", "messages")
ROLE_NAMES, TEXT_NAMES = ("from", "role"), ("value", "content", "text")
# In lower case; the last four occur in ShareGPT's own rows.
ROLES = {"human": "user", "user": "user", "prompter": "user"} | dict.fromkeys(
    ("gpt", "assistant", "model", "chatgpt", "bing", "bard", "claude"), "assistant"
)
# Parts of a content that are text.
TEXT_PARTS = ("text", "input_text", "output_text")
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One entry, and where in the file it is: "line 3", "entry 3"."""

    place: str
    value: object


def load_sharegpt(
    path: Path,
    count: int,
    seed: int,
    tokens: Tokens,
    overhead: Overhead | None = None,
    output_tokens: int | None = None,
    context: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[record.Prompt]:
    """`count` prompts drawn from the file by the seed.

    overhead: what the chat template adds; `input_tokens` of each prompt counts it
    output_tokens: to generate, instead of the recorded answer's length
    context: drop pairs that are longer than this many tokens, prompt and answer together
    tell: called with a note about rows that were skipped

    Raises BadInput for a file that can't be read, has another format, or has too few usable
    entries. The file may be larger than memory: only what is drawn is kept.
    """
    extra = (overhead or Overhead()).first
    drawn = 2 * count + SPARE
    while True:
        pairs, total, usable = _draw(path, drawn, seed)
        prompts = list(_prompts(pairs, tokens, extra, output_tokens, context))
        if len(prompts) >= count:
            if usable < total:
                tell(
                    f"{total - usable} of the {total} entries of {path.name} were skipped: "
                    "they have no question and answer in text"
                )
            return [
                record.Prompt(prompt.messages, prompt.input_tokens, prompt.output_tokens, number)
                for number, prompt in enumerate(prompts[:count])
            ]
        if drawn >= total:
            within = f" and of at most {context} tokens together" if context else ""
            raise errors.BadInput(
                f"--num-prompts {count} is more than {path} has: {len(prompts)} of its {total}"
                f" entries are a question and its answer of {SHORTEST} tokens or more each{within}"
            )
        drawn *= 4


def check_sharegpt(path: Path) -> None:
    """Check that a file has a question with an answer, reading only up to the first one. BadInput
    if it has none, or another format."""
    if not any(map(_pair, read_entries(path))):
        raise errors.BadInput(f"{path} has no question with an answer; {WANTED}")


def _draw(path: Path, size: int, seed: int) -> tuple[list[Pair], int, int]:
    """At most `size` of the file's pairs in random order, how many entries it has, and how
    many of them are such a pair.

    Each entry gets a random number, and those with the smallest are drawn: drawing more
    begins with the same ones.
    """
    rng = Random(f"{seed}/sharegpt")
    total = usable = 0

    def numbered() -> Iterator[tuple[float, int, Pair]]:
        nonlocal total, usable
        for entry in read_entries(path):
            total += 1
            number = rng.random()
            if pair := _pair(entry):
                usable += 1
                yield number, total, pair

    drawn = heapq.nsmallest(size, numbered())
    return [pair for _, _, pair in drawn], total, usable


def _pair(entry: DatasetEntry) -> Pair | None:
    """The first question with an answer right after it, both text; None if there is none."""
    value = entry.value
    messages_field = (
        next((value[n] for n in LISTS if n in value), None) if isinstance(value, dict) else None
    )
    messages = map(_message, messages_field if isinstance(messages_field, list) else [])
    for (asker, question), (answerer, answer) in pairwise(messages):
        if asker == "user" and answerer == "assistant" and question and answer:
            return question, answer
    return None


def _message(item: object) -> tuple[str, str]:
    """A message's role ("user", "assistant", or any other as written) and text; "" if missing."""
    if not isinstance(item, dict):
        return "", ""
    role = next((item[name] for name in ROLE_NAMES if item.get(name)), "")
    content = next((item[name] for name in TEXT_NAMES if item.get(name)), "")
    if isinstance(content, str):
        text = content.encode("utf-8", "replace").decode()  # half a surrogate can't be sent
    else:
        # A list of parts: if one of them isn't text, the message has none.
        listed = content if isinstance(content, list) else []
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") in TEXT_PARTS else part
            for part in listed
        ]
        texts = [part for part in parts if isinstance(part, str) and part]
        text = "".join(texts) if len(texts) == len(listed) else ""
    return (ROLES.get(role.lower(), role), text) if isinstance(role, str) else ("", "")


def _prompts(
    pairs: Iterable[Pair], tokens: Tokens, extra: int, output: int | None, context: int | None
) -> Iterator[record.Prompt]:
    """A prompt of each pair that is long enough and fits into the context."""
    pairs = list(pairs)
    question_sizes = tokens.count([question for question, _ in pairs])
    answer_sizes = tokens.count([answer for _, answer in pairs])
    for (question, _), content, answer in zip(pairs, question_sizes, answer_sizes, strict=True):
        length = answer if output is None else output
        if min(content, answer) < SHORTEST or (context and content + extra + length > context):
            continue
        yield record.Prompt((record.Message("user", question),), content + extra, length)


def read_entries(path: Path) -> Iterator[DatasetEntry]:
    """All entries of a JSON list or of JSON lines, in order, one at a time, since a file may be
    larger than memory. BadInput for what can't be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            while (character := file.read(1)) and character in BLANK:
                pass
            file.seek(0)
            if character == "[":
                yield from _listed(path, file)
                return
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield DatasetEntry(f"line {number}", json.loads(line))
                except (ValueError, RecursionError) as e:
                    raise errors.BadInput(
                        f"{path}, line {number}: not JSON ({e}); expected a JSON list, or one JSON"
                        " object a line"
                    ) from e
    except OSError as e:
        raise errors.BadInput(f"{path} can't be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise errors.BadInput(f"{path} is not UTF-8 text: {e.reason} at byte {e.start}") from e


class _Window:
    """The part of a file that is being read."""

    def __init__(self, file: TextIOWrapper) -> None:
        self._file = file
        self.text, self.at = "", 0

    def more(self) -> bool:
        """Read more; False at the end of the file. Each read doubles what is left, so that a long
        entry is decoded from its start only a few times."""
        rest = self.text[self.at :]
        added = self._file.read(max(WINDOW, len(rest)))
        self.text, self.at = rest + added, 0
        return bool(added)

    def next(self) -> str:
        """Skip blanks; return the next character without consuming it, "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in BLANK:
                self.at += 1
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]


def _listed(path: Path, file: TextIOWrapper) -> Iterator[DatasetEntry]:
    window, decoder = _Window(file), json.JSONDecoder()
    window.next()
    window.at += 1  # the bracket
    if window.next() == "]":
        return
    number = 0
    while True:
        number += 1
        place = f"entry {number}"
        window.next()
        while True:
            try:
                value, window.at = decoder.raw_decode(window.text, window.at)
                break
            except RecursionError as e:
                raise errors.BadInput(f"{path}, {place}: nested too deep") from e
            except ValueError as e:
                if len(window.text) - window.at > ENTRY or not window.more():
                    raise errors.BadInput(f"{path}, {place}: not JSON ({e})") from e
        after = window.next()
        if after not in (",", "]"):
            raise errors.BadInput(
                f"{path}, {place}: no comma after it, and no end of the JSON list"
            )
        window.at += 1
        yield DatasetEntry(place, value)
        if after == "]":
            return

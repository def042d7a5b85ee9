"""Tasks that SGLang's own harness sends and grades: sgl-eval, in an environment of its own.

It brings the prompt, the requests and the grader, so that scores compare with those that SGLang's
project publishes. Ours are the data's origin, Ctrl-C, resume and the result file: it gets only the
problems that have no answer yet, from a file, and never fetches any.
"""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from spark_bench.errors import BadInput, BenchError
from spark_bench.protocol.error_text import one_line
from spark_bench.quality.items import LONGEST_LINE, MOST_ITEMS, ItemMessage, QualityItem
from spark_bench.results.quality_schema import QualityProtocol
from spark_bench.secret import Secret

# The version whose command line, files and prompts this module knows; requirements/sgl-eval.txt
# pins it.
HARNESS_VERSION = "0.1.3"
# Those whose problems a file can give; True: sgl-eval brings them.
HARNESS_TASKS = {
    **{"gsm8k": False, "aime24": True, "aime25": True, "aime26": True},
    **{"mmlu": False, "mmlu_pro": False, "gpqa": False},
}
# Its other tasks, and why they can't be run.
NOT_OFFERED = {
    **dict.fromkeys(
        ("mmmu_pro", "mmmu_pro_vision"),
        "its problems have images, and sgl-eval takes no images from a file of problems",
    ),
    "ruler2": "sgl-eval generates its texts with a tokenizer and texts that it fetches, and grades "
    "shares; needle is like it",
}
# The forms in which problems are published that sgl-eval's own scripts read, by task; see
# harness_launcher.py.
PUBLISHED_FORMS = {"mmlu": (".tar",), "mmlu_pro": (".parquet",), "gpqa": (".csv", ".parquet")}
# Those that begin with problems of one subject: of them, the first N of --limit are drawn as
# sgl-eval draws them (`sample_seed` of its registry).
DRAWN, DRAW_SEED = ("mmlu", "mmlu_pro"), 0
# Most tokens of an answer, thoughts included, and what is left of a context for its prompt.
HARNESS_MAX_TOKENS, HARNESS_PROMPT = 16_384, 2048
LAUNCHER = Path(__file__).with_name("harness_launcher.py")
DESCRIBE_SECONDS, PREPARE_SECONDS = 120.0, 900.0
# How often its file of answers is read, and how long it may take to end, in seconds.
LOOK_SECONDS, END_SECONDS = 0.5, 15.0
# The time limit of one request that it has, in seconds.
HARNESS_TIMEOUT = 14_400.0
# What keeps Hugging Face's libraries from fetching anything.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
# The failure of a request that it gave up, after its own retries.
GIVEN_UP = "harness"
LAST_LINES = 3


class HarnessTask(Struct, frozen=True):
    """What the harness has of a task; see harness_launcher.py.

    error: why it can't read the file of problems
    """

    version: str
    prompt: str = ""
    data: str = ""
    error: str = ""


class HarnessLine(Struct, frozen=True):
    """A line of its answers, as `PredictionsWriter` of 0.1.3 writes it."""

    id: str
    generation: str | None
    symbolic_correct: bool
    predicted_answer: str | int | float | None = None
    reasoning_content: str | None = None
    finish_reason: str | None = None
    num_generated_tokens: int | None = None
    generation_start_time: float | None = None
    generation_end_time: float | None = None


class _Problem(Struct, frozen=True):
    """A line of problems, as sgl-eval has them."""

    problem: str
    expected_answer: str | int | float
    id: str | int | None = None
    subset_for_metrics: str | None = None


class _GradeSchool(Struct, frozen=True):
    """A line of GSM8K as OpenAI publishes it: the answer's last line is "#### N"."""

    question: str
    answer: str


def describe_task(
    task: str, program: Path, published: Path | None = None, folder: Path = Path()
) -> HarnessTask:
    """What the harness has of a task. Raises BadInput if there is none of the right version.

    published: a file in one of PUBLISHED_FORMS, of which it makes one of problems in `folder`
    """
    cure = f"make sgl-eval installs {HARNESS_VERSION}; --harness names another environment's Python"
    try:
        done = subprocess.run(
            [program, LAUNCHER],
            input=json.dumps(
                {"describe": task, "published": str(published or ""), "folder": str(folder)}
            ).encode(),
            capture_output=True,
            timeout=PREPARE_SECONDS if published else DESCRIBE_SECONDS,
            env={**os.environ, **OFFLINE},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(
            f"{task} needs sgl-eval, and {program} can't run it ({error}): {cure}"
        ) from None
    try:
        described = msgspec.json.decode(done.stdout, type=HarnessTask)
    except msgspec.DecodeError:
        words = one_line(done.stderr.decode(errors="replace")[-400:])
        raise BadInput(f"{task} needs sgl-eval, and {program} has none ({words}): {cure}") from None
    if described.version != HARNESS_VERSION:
        raise BadInput(f"{task} needs sgl-eval, and {program} has {described.version}: {cure}")
    if described.error:
        raise BadInput(f"--data {published}: sgl-eval can't read it: {described.error}")
    return described


def data_needed(task: str) -> str:
    """That a task has no data without --data, and what that takes."""
    form = {"mmlu": "data.tar of cais/mmlu", "mmlu_pro": "test-….parquet of TIGER-Lab/MMLU-Pro"}
    published = form.get(task) or (
        "gpqa_diamond.csv" if task == "gpqa" else "lines with question and answer"
    )
    return (
        f"{task} needs --data FILE with its problems: {published}, or a JSON object per line with "
        "problem and expected_answer; nothing is fetched that is not named with its hash"
    )


def harness_items(
    task: str, program: Path, data: Path | None, limit: int | None = None
) -> tuple[list[QualityItem], str]:
    """The problems of a task, and where they are from.

    data: the file of problems; None: the harness's own
    limit: how many; None: all
    Raises BadInput if there is no harness, no data, or a line that is no problem.
    """
    published = data if data and data.suffix in PUBLISHED_FORMS.get(task, ()) else None
    with tempfile.TemporaryDirectory(prefix="spark-bench-") as folder:
        described = describe_task(task, program, published, Path(folder))
        path = data if data and not published else Path(described.data)
        if not (data or described.data):
            raise BadInput(data_needed(task))
        items = list(_read_problems(task, path, described.prompt))
    if len({item.id for item in items}) < len(items) or not items:
        raise BadInput(f"--data {data}: it has no problems, or two with the same id")
    if task in DRAWN and limit and limit < len(items):
        items = Random(DRAW_SEED).sample(items, limit)
    origin = data.name if data else "its own data"
    return items[:limit], f"sgl-eval {described.version}, {origin}"


def _read_problems(task: str, path: Path, prompt: str) -> Iterator[QualityItem]:
    """Yield an item for each problem of a file. prompt: the harness's, which goes around it"""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file):
                if len(line) > LONGEST_LINE or number >= MOST_ITEMS:
                    raise ValueError(f"more than {LONGEST_LINE} bytes, or {MOST_ITEMS} lines")
                if not line.strip():
                    continue
                try:
                    row: _Problem | _GradeSchool = msgspec.json.decode(line, type=_Problem)
                except msgspec.ValidationError:
                    row = msgspec.json.decode(line, type=_GradeSchool)
                if isinstance(row, _Problem):
                    name, text = row.id, row.problem
                    expected, group = str(row.expected_answer), row.subset_for_metrics or ""
                else:
                    marked = row.answer.rpartition("####")[2].strip().replace(",", "")
                    name, text, expected, group = None, row.question, f"{float(marked):.15g}", ""
                yield QualityItem(
                    id=f"{task}-{number}" if name is None else str(name),
                    group=group,
                    messages=(ItemMessage("user", text),),
                    grader="exact",
                    expected=expected,
                    fields={"prompt": prompt},
                )
    except OSError as error:
        raise BadInput(f"--data {path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"--data {path}, line {number + 1}: {error}: each line is a JSON object with question "
            "and answer (#### N at its end), or problem and expected_answer"
        ) from None


class HarnessRun:
    """sgl-eval at work on problems; iterate over it for its answers, as they come.

    ended: why it ended without all answers; "": it did not
    """

    def __init__(
        self,
        task: str,
        program: Path,
        items: Sequence[QualityItem],
        protocol: QualityProtocol,
        *,
        url: str,
        model: str,
        api_key: Secret | None,
        concurrency: int,
    ) -> None:
        self.ended = ""
        self._program, self._items = program, items
        self._key = api_key.reveal() if api_key else "EMPTY"
        thinking = {"on": "--thinking", "off": "--no-thinking"}.get(protocol.thinking)
        self._arguments = [
            *("run", task, "--base-url", f"{url}/v1", "--model", model, "--n-repeats", "1"),
            *("--num-threads", str(concurrency), "--max-tokens", str(protocol.max_tokens)),
            *("--temperature", f"{protocol.temperature or 0:g}", "--top-p", "1"),
            *([thinking] if thinking else []),
        ]
        if thinking:
            # Templates read one of two names.
            on = str(protocol.thinking == "on").lower()
            self._arguments += ["--chat-template-kwarg", f"enable_thinking={on}"]

    def answers(self, stopped: Callable[[], bool]) -> Iterator[HarnessLine | None]:
        """Yield each answer as it comes, and None at every look; ends soon after `stopped`.

        Raises BenchError if it ends without any answer of its own accord.
        """
        with tempfile.TemporaryDirectory(prefix="spark-bench-") as folder:
            here = Path(folder)
            data = here / "problems.jsonl"
            with data.open("w") as file:
                for item in self._items:
                    row = {"id": item.id, "problem": item.messages[0].content}
                    file.write(json.dumps(row | {"expected_answer": item.expected}) + "\n")
            arguments = [*self._arguments, "--from-dataset", str(data), "--out-dir", folder]
            log = here / "log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [self._program, LAUNCHER],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **OFFLINE},
                    # Ctrl-C goes to us, and from us to it.
                    start_new_session=True,
                )
            try:
                yield from self._follow(process, arguments, here, stopped)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
            lines = log.read_bytes()[-4000:].decode(errors="replace").splitlines()
            if process.returncode and not stopped():
                last = one_line(" | ".join(line for line in lines[-LAST_LINES:] if line.strip()))
                self.ended = f"sgl-eval ended with exit code {process.returncode} ({last})"

    def _follow(
        self,
        process: subprocess.Popen[bytes],
        arguments: list[str],
        here: Path,
        stopped: Callable[[], bool],
    ) -> Iterator[HarnessLine | None]:
        """Hand over the request, and yield the answers until the process has ended."""
        request: dict[str, Any] = {"run": arguments, "api_key": self._key}
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps(request).encode())
        read, end = 0, 0.0
        while True:
            running = process.poll() is None
            for file in here.glob("sgl_eval_*/output-rs0.jsonl"):
                lines, read = read_whole_lines(file, read)
                yield from lines
            yield None
            if not running:
                return
            if stopped() and not end:
                process.send_signal(signal.SIGINT)
                end = time.monotonic() + END_SECONDS
            if end and time.monotonic() > end:
                return
            time.sleep(LOOK_SECONDS)


def read_whole_lines(file: Path, start: int) -> tuple[list[HarnessLine], int]:
    """The answers in a growing file from a place on, and the place behind the last whole line."""
    with file.open("rb") as opened:
        opened.seek(start)
        data = opened.read()
    whole = data[: data.rfind(b"\n") + 1]
    try:
        lines = [msgspec.json.decode(line, type=HarnessLine) for line in whole.splitlines()]
    except msgspec.DecodeError as error:
        raise BenchError(f"sgl-eval wrote an answer of another form: {error}") from None
    return lines, start + len(whole)

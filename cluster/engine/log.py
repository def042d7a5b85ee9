"""Reading an engine's log: how far a rank is, over which transport, which exceptions ended it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, Protocol

from cluster.printable import printable

# A terminal's control functions (ECMA-48) and single control characters, except tab and carriage
# return: CSI; OSC, DCS, SOS, PM and APC up to their end, or the line's; any other escape; C0, C1.
# Each branch always consumes its first character, so none survives, however they are nested.
CONTROLS = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x0c\x0e-\x1f\x7f-\x9f]"
)
# How many characters of a line's beginning, and of its end, are read: a client can make uvicorn log
# 64 kB in one line.
END_LENGTH = 2_000

# Rank 0 (http_server.py), ranks above it (utils/common.py: 0.5.23, 0.5.3.post3), llama.cpp.
READY = re.compile(
    r"The server is fired up and ready to roll!"
    r"|Dummy health check server started in background thread at"
    r"|Starting dummy health check server at"
    r"|ready: \S+ at http\S+ \(llama\.cpp\)|init: listening on http"
)
# What a head logs after SIGTERM (SGLang 0.5, managers/tokenizer_manager.py).
STOPPING = "Draining requests and shutting down"
# Triton's bindings print some 30 lines about leaks when a rank ends, however it ends.
NOISE = re.compile(r"^(?:nanobind: | - (?:leaked |\.\.\. skipped )|See https://nanobind)")
# SGLang prints its 500 arguments as one line of 30,000 characters.
LINE_LENGTH = 300
# The step in which the ranks wait for each other.
MEETING = "initialising torch distributed"
# The step in which a hang of NCCL shows first.
CAPTURING = "capturing CUDA graphs"
# The bar of a capture (tqdm, rank 0 alone). It ends its line only when it is complete, and Docker
# keeps whole lines: what is read meanwhile is the line before it.
CAPTURE_BAR = re.compile(
    r"(?:Capturing|Compiling) (?:batches|num tokens) \([^|]*\|[^|]*\| *(?P<done>\d+)/(?P<all>\d+) "
)
# A line that begins or ends a step → the step that follows it. SGLang 0.5.23 says "Init
# parallel" and "Capture target decode CUDA graph", 0.5.3.post3 "Init torch distributed" and
# "Capture cuda graph"; the rest is alike.
PHASES = (
    (READY, "ready"),
    (re.compile(r"Init (?:parallel|torch distributed) begin"), MEETING),
    (
        re.compile(
            r"Init (?:parallel|torch distributed) ends|Load weight begin"
            r"|[Ll]oading (?:(?:safetensors|pt) checkpoint )?shards|load_model: loading model"
        ),
        "loading weights",
    ),
    (
        re.compile(
            r"Load weight end|KV Cache is allocated|Memory pool end|: initializing, n_slots"
        ),
        "allocating KV cache",
    ),
    (re.compile(rf"Capture .*graph (?:begin|bs \[)|{CAPTURE_BAR.pattern}"), CAPTURING),
    (
        re.compile(
            r"Capture .*graph end|max_total_num_tokens=|Uvicorn running on|warming up the model"
        ),
        "warming up",
    ),
)

TRANSPORT_PATTERN = (
    r"NCCL INFO .*(via NET/|Channel 0+[ /].*via (P2P|SHM)/|Using network "
    r"|NET/IB[A-Za-z0-9_]* : (Using \[[0-9]|Made virtual|No device))"
)
"""For `grep -E` (POSIX): selects the lines that `transport` reads. Of the hundreds about two GPUs
in one machine, it selects only the first channel's."""

# The surest first: a channel between machines, a channel in one machine, the network chosen, the
# devices found. A plugin calls its InfiniBand IBext_v10; "NET/Socket : Using" is no verdict, since
# NCCL prints it beside a chosen IB too; what follows "Using" may be a flag: [RO], [SHARP].
VERDICTS = (
    re.compile(r"NCCL INFO .*via NET/(?:(?P<rdma>IB)|(?P<tcp>Socket))"),
    re.compile(r"NCCL INFO .*(?P<local>via (?:P2P|SHM)/)"),
    re.compile(r"NCCL INFO .*Using network (?:(?P<rdma>IB)|(?P<tcp>Socket))"),
    re.compile(r"NCCL INFO .*NET/IB\w* : (?:(?P<rdma>Using \[\d|Made virtual)|(?P<tcp>No device))"),
)

# ---- exceptions

TRACEBACK = "Traceback (most recent call last):"
HIT_AN_EXCEPTION = "hit an exception: Traceback"
STAMPED = re.compile(r"\[\d{4}-\d\d-\d\d ")
# What stands in front of a traceback's lines in a process of torch.distributed, and in a group of
# exceptions; and what stands between that group's members.
FRAME = re.compile(r"\[rank\d+\]: ?| +(?:\| ?|\+ (?=Exception Group ))")
MEMBER = re.compile(r"^ +\+(?:-\+)?-+ (?:\d+|\.\.\.) -+$")
# The line that names an exception, after its traceback; without a traceback, the name must end in
# one of NAMES.
RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*(?P<name>[A-Za-z_]\w*)(?=:|$)")
NAMES = ("Error", "Exception", "Timeout", "Exit", "Interrupt")
# Python's line for an exception in a destructor, most often at exit.
IGNORED = "Exception ignored "
CHAINED = (
    "During handling of the above exception",
    "The above exception was the direct cause",
)


class Searchable(Protocol):
    """What finds a match in a line: a pattern, or a symptom's expression."""

    def search(self, line: str, /) -> re.Match[str] | None: ...


@dataclass(frozen=True)
class Transport:
    """What NCCL carries its traffic over, and the line that shows it.

    "local": between GPUs of one machine alone. "unknown" without NCCL's lines (gloo, NCCL_DEBUG not
    INFO), or where they disagree: then `evidence` is the last of them.
    """

    kind: Literal["rdma", "tcp", "local", "unknown"]
    evidence: str = ""


def clean(line: str) -> str:
    """A line as it may be shown: without control sequences, with only the last state of a progress
    bar, and without the middle of a very long line."""
    if len(line) > 2 * END_LENGTH:
        line = f"{line[:END_LENGTH]}…{line[-END_LENGTH:]}"
    if not line.isprintable():
        line = CONTROLS.sub("", line).rstrip().rpartition("\r")[2]
    return printable(line).rstrip()


def meaningful_lines(lines: Sequence[str], count: int) -> tuple[str, ...]:
    """The last `count` lines that say something, cleaned and cut to LINE_LENGTH characters."""
    readable = [line for line in map(clean, lines) if line and not NOISE.match(line)]
    return tuple(line[:LINE_LENGTH] for line in readable[-count:])


def phase(lines: Sequence[str]) -> str:
    """The step that a rank is in, from the last line that shows one; "" where none does."""
    for line in map(clean, reversed(lines)):
        for pattern, words in PHASES:
            if pattern.search(line):
                return words
    return ""


def capture_progress(lines: Sequence[str]) -> str:
    """How far the capture of CUDA graphs is that a log ends in: "12 of 36"; "" if no bar shows."""
    bar = next((m for line in reversed(lines) if (m := CAPTURE_BAR.search(clean(line)))), None)
    return f"{bar['done']} of {bar['all']}" if bar else ""


def transport(lines: Sequence[str]) -> Transport:
    """What carries the traffic between nodes, by the surest of NCCL's lines."""
    for pattern in VERDICTS:
        matches = [m for line in lines if (m := pattern.search(clean(line)))]
        if not matches:
            continue
        kinds = {kind for match in matches for kind, words in match.groupdict().items() if words}
        evidence = matches[-1].string.strip()
        for kind in ("rdma", "tcp", "local"):
            if kinds == {kind}:
                return Transport(kind, evidence)
        return Transport("unknown", evidence)
    return Transport("unknown")


@dataclass(frozen=True)
class LoggedException:
    """An exception in a log.

    + first, after: positions of the line that names it, and of the line after its text
    + text: name and text, in one line
    + chained: it follows from the one before it, or is a member of that group
    """

    first: int
    after: int
    text: str
    chained: bool = False

    @property
    def is_group(self) -> bool:
        return self.text.partition(":")[0].endswith("ExceptionGroup")


def last_match(expression: Searchable, log: Sequence[str]) -> int:
    """The position of the last line that matches; -1 if none does."""
    return next((at for at in range(len(log) - 1, -1, -1) if expression.search(log[at])), -1)


def find_fatal(log: Sequence[str], *, failed: bool) -> list[LoggedException]:
    """The exception that ended the engine, after those that led to it; [] if there is none.

    It is the one that a process of SGLang reports or, if the rank failed, the last one in the log.
    """
    ready = max(0, last_match(READY, log))
    reported = next((i for i in range(ready, len(log)) if HIT_AN_EXCEPTION in log[i]), None)
    if reported is not None:
        return next(_chains(log, reported), [])
    if not failed:
        return []
    *_, last = [[], *_chains(log, ready)]
    if last:
        return last
    if any(TRACEBACK in line for line in log):
        return []
    # If the log's beginning is lost, only the end of a traceback may be left: a name that sounds
    # like an exception's.
    for at in range(len(log) - 1, ready - 1, -1):
        name = RAISED.match(log[at])
        if name and name["name"].endswith(NAMES) and log[at][name.end() :][:2] in ("", ": "):
            return [LoggedException(at, at + 1, log[at])]
    return []


def _chains(log: Sequence[str], start: int) -> Iterator[list[LoggedException]]:
    """The exceptions from a line on, each with what led to it."""
    chain: list[LoggedException] = []
    for raised in _raised(log, start):
        if not raised.chained and chain:
            yield chain
            chain = []
        chain.append(raised)
    if chain:
        yield chain


def _raised(log: Sequence[str], start: int) -> Iterator[LoggedException]:
    """The exceptions whose tracebacks stand in a log, from a line on."""
    inside = chained = ignored = False
    at = start
    while at < len(log):
        line = unframed(log[at])
        at += 1
        if line.startswith(CHAINED):
            chained = True
        elif MEMBER.match(log[at - 1]):
            inside = chained = True
        elif TRACEBACK in line:
            inside = True
        elif not inside or not line or line.startswith(" ") or STAMPED.match(line):
            chained = chained and not STAMPED.match(line)
            ignored = ignored or line.startswith(IGNORED)
        else:
            inside = False
            if RAISED.match(line) and not ignored:
                yield _text(log, at - 1, chained)
            chained = ignored = False


def unframed(line: str) -> str:
    """The line without the prefix that torch.distributed or an exception group puts before it."""
    frame = FRAME.match(line)
    return line[frame.end() :] if frame else line


def _text(log: Sequence[str], first: int, chained: bool) -> LoggedException:
    """The exception that this line names, with its text, which may begin on a later line."""
    rest = takewhile(lambda line: not _over(line), (log[i] for i in range(first + 1, len(log))))
    lines = [unframed(line).strip() for line in (log[first], *rest)]
    after = first + len(lines)
    text, *more = lines
    while more and text.endswith(":"):
        text = f"{text} {more.pop(0)}".strip()
    return LoggedException(first, after, text, chained)


def _over(line: str) -> bool:
    """Whether a line can no longer belong to an exception's text."""
    bare = unframed(line)
    return bool(
        TRACEBACK in bare
        or bare.startswith(CHAINED)
        or STAMPED.match(bare)
        or line.lstrip().startswith("+--")
    )


def find_stop(log: Sequence[str]) -> int:
    """The position of the line in which the engine says that it ends as requested; len(log) if it
    does not, or has been started again since."""
    for at in range(len(log) - 1, -1, -1):
        if STOPPING in log[at]:
            return at
        if "server_args=" in log[at]:
            break
    return len(log)

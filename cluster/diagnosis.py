"""From the lines of a failed rank, or of Docker, to the cause and its cure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from signal import Signals

from cluster.engine_log import READY, TRANSPORT_PATTERN, Transport, clean, phase, transport
from cluster.symptoms import Symptom, Weight, noise, place, symptoms

__all__ = [
    "TRANSPORT_PATTERN",
    "Diagnosis",
    "End",
    "Transport",
    "Weight",
    "diagnose",
    "docker_error",
    "group_diagnosis",
    "phase",
    "transport",
]

EVIDENCE_LENGTH = 200
# How Docker's own messages begin: its words for a registry mean other things in an engine's log.
DOCKER_LINE = re.compile(
    r"^(?:docker: |Error response from daemon: |Error: |permission denied while|OCI runtime"
    r"|[Cc]annot connect to the Docker|failed to (?:connect to the docker|create task|set up)"
    r"|driver failed programming)|nvidia-container-cli|could not select device driver"
)
SCHEDULER_FAILED = re.compile(r"Scheduler hit an exception: Traceback")
STAMPED = re.compile(r"\[\d{4}-\d\d-\d\d ")
EXCEPTION = re.compile(r"(?:\w+\.)*(?:[A-Z]\w*)?(?:Error|Exception|Timeout|Exit)(?:: .*)?$")
# What Docker's exit codes say of themselves: exit code → key, cause, cure.
CODES = {
    2: (
        "bad-flags",
        "the engine refuses its arguments",
        "correct extra_args, and sglang_version if the image holds another version",
    ),
    125: (
        "docker-failed",
        "Docker itself could not start the container",
        "docker start --attach it on the node, to read why",
    ),
    126: (
        "not-executable",
        "the command that starts the engine cannot be executed in this image",
        "an image for linux/arm64 with SGLang in it: --data image=lmsysorg/sglang:spark",
    ),
    127: (
        "no-such-command",
        "the image does not hold the command that starts the engine",
        "an image with SGLang in it: --data image=lmsysorg/sglang:spark",
    ),
}


@dataclass(frozen=True)
class End:
    """How a rank ended, as `docker inspect` tells it.

    + exit_code: None while it runs, or where it is not known
    + oom_killed: .State.OOMKilled: the only proof, as SGLang's own failures exit with 137 as well
    + restarts: .RestartCount
    """

    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int = 0


@dataclass(frozen=True)
class Diagnosis:
    """One thing that went wrong.

    + evidence: the line that shows it, without colours, at most EVIDENCE_LENGTH characters
    + cure: a command, or settings as they follow `pyinfra INVENTORY deploy.py`
    + key: the symptom's stable name ("graph-oom")
    """

    cause: str
    evidence: str
    cure: str
    key: str
    weight: Weight = Weight.CAUSE

    def __str__(self) -> str:
        return f"{self.cause} -> {self.cure}"


@dataclass(frozen=True)
class Hit:
    """A line that shows a symptom; `at` is its place in the log."""

    symptom: Symptom
    found: re.Match[str]
    at: int


class Words(dict[str, str]):
    """What the lines told, for the {words} of a cause or a cure; {WORD} may stay as it stands."""

    def __missing__(self, word: str) -> str:
        return self.get(word.lower(), word) if word.isupper() else f"the {word}"


def diagnose(lines: Sequence[str], end: End | None = None) -> tuple[Diagnosis, ...]:
    """What went wrong in one rank, the most telling first; () where nothing did.

    What stands before the engine's last "ready" it has overcome, but for notes.
    """
    log = [clean(line) for line in lines]
    hits = [h for h in _hits(log) if not _over(h, log)]
    told = [*_killed(end), *_told(hits), *_unrecognised(log, hits, end), *_by_code(end)]
    if all(d.weight is Weight.NOTE for d in told):
        told += _unexplained(end)
    first = {d.key: d for d in reversed(told)}
    return tuple(sorted(first.values(), key=lambda d: (d.weight, told.index(d))))


def group_diagnosis(
    by_rank: Mapping[str, tuple[Sequence[str], End | None]],
) -> tuple[tuple[str, Diagnosis], ...]:
    """What went wrong in a group, the most telling first, each with its rank's name.

    A rank that lost another stands behind the other's own cause; equals keep the mapping's order.
    """
    told = [(rank, d) for rank, (lines, end) in by_rank.items() for d in diagnose(lines, end)]
    return tuple(sorted(told, key=lambda pair: pair[1].weight))


def docker_error(text: str, image: str = "") -> Diagnosis | None:
    """What Docker's client says when a pull, create or start fails; None for words unknown here."""
    log = [clean(line) for line in text.splitlines()]
    found = (_first(symptoms("docker"), line, at) for at, line in enumerate(log))
    told = _told([hit for hit in found if hit], {"image": image} if image else {})
    return told[0] if told else None


def _hits(log: Sequence[str]) -> Iterator[Hit]:
    for at, line in enumerate(log):
        known = symptoms("docker") if DOCKER_LINE.search(line) else ()
        hit = _first((*symptoms("engine"), *known), line, at)
        if hit and not noise().search(line):
            yield hit


def _first(known: Iterable[Symptom], line: str, at: int) -> Hit | None:
    return next((Hit(s, found, at) for s in known if (found := s.match(line))), None)


def _over(hit: Hit, log: Sequence[str]) -> bool:
    """A later line shows that the engine got over it."""
    patterns = [p for p in (hit.symptom.healed_by, READY) if p]
    if hit.symptom.weight is Weight.NOTE:
        patterns.remove(READY)
    return any(p.search(line) for line in log[hit.at + 1 :] for p in patterns)


def _told(hits: Sequence[Hit], words: Mapping[str, str] | None = None) -> list[Diagnosis]:
    """One diagnosis for each symptom, the most telling first, the covered ones left out."""
    covered = {key for hit in hits for key in hit.symptom.covers}
    heard = Words({k: v for h in reversed(hits) for k, v in h.found.groupdict().items() if v})
    heard.update(words or {})
    first = {h.symptom.key: h for h in reversed(hits) if h.symptom.key not in covered}
    ranked = sorted(first.values(), key=lambda h: (h.symptom.weight, place(h.symptom.key)))
    return [_diagnosis(hit, heard) for hit in ranked]


def _diagnosis(hit: Hit, words: Words) -> Diagnosis:
    s = hit.symptom
    cause = s.cause.format_map(words)
    # A cure is there to be copied into a shell.
    cure = s.cure.format_map(Words({k: shlex.quote(v) for k, v in words.items()}))
    return Diagnosis(cause, _excerpt(hit.found.string, hit.found.start()), cure, s.key, s.weight)


def _excerpt(line: str, start: int = 0) -> str:
    """The line, or as much of it as is evidence, with what begins at `start`."""
    begin = start if start > EVIDENCE_LENGTH // 2 and len(line) > EVIDENCE_LENGTH else 0
    text = f"…{line[begin:].strip()}" if begin else line.strip()
    return text if len(text) <= EVIDENCE_LENGTH else f"{text[: EVIDENCE_LENGTH - 1]}…"


def _unrecognised(log: Sequence[str], hits: Sequence[Hit], end: End | None) -> Iterator[Diagnosis]:
    """The exception that ended the rank, where no symptom knows its line."""
    at = _last_exception(log, end)
    if at is not None and at not in {hit.at for hit in hits}:
        words = _excerpt(log[at])
        cure = "the whole traceback stands in the rank's log"
        yield Diagnosis(f"the engine failed: {words}", words, cure, "exception", Weight.FAILED)


def _last_exception(log: Sequence[str], end: End | None) -> int | None:
    """Where the scheduler's traceback ends or, if the process failed, the last one of all."""
    ready = max((i for i, line in enumerate(log) if READY.search(line)), default=0)
    failed = [i for i in range(ready, len(log)) if SCHEDULER_FAILED.search(log[i])]
    if failed:
        lines = range(failed[-1] + 1, _next_stamp(log, failed[-1] + 1))
    else:
        lines = range(ready if end and end.exit_code else len(log), len(log))
    return max((i for i in lines if EXCEPTION.match(log[i])), default=None)


def _next_stamp(log: Sequence[str], at: int) -> int:
    return next((i for i in range(at, len(log)) if STAMPED.match(log[i])), len(log))


def _killed(end: End | None) -> Iterator[Diagnosis]:
    if end and end.oom_killed:
        yield Diagnosis(
            cause="the kernel killed the rank: the node's memory ran out",
            evidence=f"OOMKilled is true, exit code {end.exit_code}",
            cure="--data mem_fraction=0.75; on the node: free -h and nvidia-smi show who holds it",
            key="oom-killed",
        )


def _by_code(end: End | None) -> Iterator[Diagnosis]:
    if end and end.exit_code in CODES:
        key, cause, cure = CODES[end.exit_code]
        yield Diagnosis(cause, f"exit code {end.exit_code}", cure, key)


def _unexplained(end: End | None) -> Iterator[Diagnosis]:
    """What is left to say of an end that no line explains."""
    if not end or not (end.exit_code or end.restarts):
        return
    evidence = f"exit code {end.exit_code}, restarts {end.restarts}"
    cure = "read the rank's whole log, and those of the other ranks"
    yield Diagnosis(_ending(end), evidence, cure, "ended", Weight.CONSEQUENCE)


def _ending(end: End) -> str:
    if end.exit_code == 137:
        return (
            "the rank ended by SIGKILL, not for want of memory: SGLang ends so when a child fails"
        )
    if not end.exit_code:
        return f"the rank ended and was started again, {end.restarts} times"
    if end.exit_code - 128 in set(Signals):
        return f"the rank was ended by {Signals(end.exit_code - 128).name}"
    return f"the rank ended with exit code {end.exit_code}"

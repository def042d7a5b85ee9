"""From the lines of a failed rank, or of Docker, to the cause and its cure."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from signal import Signals
from types import MappingProxyType

from cluster.engine import log as engine_log
from cluster.engine.symptoms import Expression, Symptom, Weight, mentions, noise, position, symptoms

EVIDENCE_LENGTH = 200
# How Docker's own messages begin: its words for a registry mean other things in an engine's log.
DOCKER_LINE = re.compile(
    r"(?:docker: |Error response from daemon: |Error: |permission denied while|OCI runtime"
    r"|[Cc]annot connect to the Docker|failed to (?:connect to the docker|create task|set up)"
    r"|driver failed programming|exec /|exec: |standard_init_linux)"
)
# More lines than Docker's client prints at once; how many characters of unknown output are shown.
DOCKER_LINES, DOCKER_LENGTH = 1_000, 500
DOCKER_TEXTS = ("nvidia-container-cli", "could not select device driver")
# What Docker's exit codes mean by themselves: exit code → key, cause, cure.
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
    """How a rank ended, from `docker inspect`.

    + exit_code: None while it runs, or where it could not be read
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
    match: re.Match[str]
    at: int


class Placeholders(dict[str, str]):
    """The values of the {words} in a cause or a cure.

    A {word} without a value becomes "the word", a {WORD} stays as it is.
    """

    def __missing__(self, word: str) -> str:
        return self.get(word.lower(), word) if word.isupper() else f"the {word}"


def diagnose(lines: Sequence[str], end: End | None = None) -> tuple[Diagnosis, ...]:
    """What went wrong in one rank, most significant first; () if nothing did.

    Of what precedes the engine's last "ready", only notes count: the engine got past the rest.
    """
    log = [engine_log.clean(line) for line in lines]
    # Values from lines that show nothing wrong. The whole line is searched, as SGLang's arguments
    # are long.
    mentioned = (match for line in lines for e in mentions() if (match := e.search(line)))
    heard = {
        word: engine_log.clean(text) for m in mentioned for word, text in m.groupdict().items()
    }
    hits = _still_valid(list(_hits(log, heard)), log)
    recognized = _diagnose_hits(hits, heard)
    unknown = list(_unrecognized(log, hits, end))
    # The exception that SGLang reports comes before the children that it then killed.
    own = any(engine_log.HIT_AN_EXCEPTION in line for line in log)
    diagnoses = [*(unknown if own else ()), *recognized, *unknown]
    if end and end.oom_killed:
        killed = Diagnosis(
            cause="the kernel killed the rank: the node's memory ran out",
            evidence=f"OOMKilled is true, exit code {end.exit_code}",
            cure="--data mem_fraction=0.75; on the node: free -h and nvidia-smi show who holds it",
            key="oom-killed",
        )
        diagnoses.insert(0, killed)
    if end and end.exit_code in CODES:
        key, cause, cure = CODES[end.exit_code]
        diagnoses.append(Diagnosis(cause, f"exit code {end.exit_code}", cure, key))
    if all(d.weight is Weight.NOTE for d in diagnoses):
        diagnoses += _unexplained(end)
    first = {d.key: d for d in reversed(diagnoses)}
    return tuple(sorted(first.values(), key=lambda d: (d.weight, diagnoses.index(d))))


def group_diagnosis(
    by_rank: Mapping[str, tuple[Sequence[str], End | None]],
) -> tuple[tuple[str, Diagnosis], ...]:
    """What went wrong in a group, most significant first, each with its rank's name.

    A rank that lost another one comes after that one's own cause; equals keep the mapping's order.
    A requested stop is no fault, and neither is what the other ranks say about it.
    """
    diagnoses = [(rank, d) for rank, (lines, end) in by_rank.items() for d in diagnose(lines, end)]
    if any(engine_log.find_stop(lines) < len(lines) for lines, _ in by_rank.values()):
        diagnoses = [
            (rank, d) for rank, d in diagnoses if d.weight not in (Weight.PEER, Weight.CONSEQUENCE)
        ]
    return tuple(sorted(diagnoses, key=lambda pair: pair[1].weight))


def docker_error(text: str, image: str = "") -> Diagnosis | None:
    """What the output of a failed pull, create or start means; None if no symptom matches."""
    log = [engine_log.clean(line) for line in text.split("\n")[-DOCKER_LINES:]]
    hits = [h for at, line in enumerate(log) if (h := _first(symptoms("docker"), line, at))]
    diagnoses = _diagnose_hits(hits, {"image": image} if image else {})
    return diagnoses[0] if diagnoses else None


def docker_failure(text: str, image: str = "") -> tuple[str, str]:
    """(what a failed Docker command means, with its evidence; the cure).

    If no symptom matches, the first is the end of the output.
    """
    if diagnosis := docker_error(text, image):
        return f"{diagnosis.cause} ({diagnosis.evidence})", diagnosis.cure
    last = text.strip()[-DOCKER_LENGTH:]
    if len(text.strip()) > DOCKER_LENGTH:
        last = f"… {last.partition(' ')[2]}"
    return last or "Docker did not respond in time", "journalctl -u docker on the node shows more"


def _hits(log: Sequence[str], heard: Mapping[str, str]) -> Iterator[Hit]:
    """Each line that shows a symptom, with the first symptom that matches it."""
    text = "\n".join(log)
    engine = _possible_in((s for s in symptoms("engine") if not s.needs or s.needs in heard), text)
    both = (*engine, *_possible_in(symptoms("docker"), text))
    warnings = {s.shown_by for s in engine if s.shown_by}
    above: dict[Expression, re.Match[str]] = {}
    for at, line in enumerate(map(engine_log.unframed, log)):
        if any(e.search(line) for e in noise()):
            continue
        of_docker = DOCKER_LINE.match(line) or any(text in line for text in DOCKER_TEXTS)
        if hit := _first(both if of_docker else engine, line, at, above):
            yield hit
        above.update({e: match for e in warnings if (match := e.search(line))})


def _possible_in(candidates: Iterable[Symptom], text: str) -> tuple[Symptom, ...]:
    return tuple(there for symptom in candidates if (there := symptom.within(text)))


def _first(
    candidates: Iterable[Symptom],
    line: str,
    at: int,
    above: Mapping[Expression, re.Match[str]] = MappingProxyType({}),
) -> Hit | None:
    """The first symptom that a line shows. `above`: what the lines above show for it."""
    for symptom in candidates:
        match = symptom.match(line)
        if match and symptom.shown_by:
            match = above.get(symptom.shown_by)
        if match:
            return Hit(symptom, match, at)
    return None


def _still_valid(hits: Sequence[Hit], log: Sequence[str]) -> list[Hit]:
    """The hits that no later line shows to be resolved, and that no requested stop explains."""
    ready, stop = engine_log.last_match(engine_log.READY, log), engine_log.find_stop(log)
    healing = {h.symptom.healed_by for h in hits if h.symptom.healed_by}
    healed = {expression: engine_log.last_match(expression, log) for expression in healing}
    return [
        h
        for h in hits
        if (ready < h.at < stop or h.symptom.weight is Weight.NOTE)
        and (not h.symptom.healed_by or h.at > healed[h.symptom.healed_by])
    ]


def _diagnose_hits(hits: Sequence[Hit], heard: Mapping[str, str]) -> list[Diagnosis]:
    """One diagnosis per symptom, most significant first, without those that another covers."""
    covered = {key for hit in hits for key in hit.symptom.covers}
    words = Placeholders(
        {k: v for h in reversed(hits) for k, v in h.match.groupdict().items() if v}
    )
    words.update(heard)
    first = {h.symptom.key: h for h in reversed(hits) if h.symptom.key not in covered}
    ranked = sorted(first.values(), key=lambda h: (h.symptom.weight, position(h.symptom.key)))
    # Cures are pasted into shells.
    quoted = Placeholders({k: shlex.quote(v) for k, v in words.items()})
    return [
        Diagnosis(
            hit.symptom.cause.format_map(words),
            _excerpt(hit.match.string, hit.match.start()),
            hit.symptom.cure.format_map(quoted),
            hit.symptom.key,
            hit.symptom.weight,
        )
        for hit in ranked
    ]


def _excerpt(line: str, start: int = 0) -> str:
    """The line, cut to EVIDENCE_LENGTH characters; a long one shows what begins at `start`."""
    begin = start if start > EVIDENCE_LENGTH // 2 and len(line) > EVIDENCE_LENGTH else 0
    text = f"…{line[begin:].strip()}" if begin else line.strip()
    return text if len(text) <= EVIDENCE_LENGTH else f"{text[: EVIDENCE_LENGTH - 1]}…"


def _unrecognized(log: Sequence[str], hits: Sequence[Hit], end: End | None) -> Iterator[Diagnosis]:
    """The exception that ended the rank, unless a symptom explains it or what led to it."""
    chain = engine_log.find_fatal(log, failed=bool(end and end.exit_code))
    hit_lines = {hit.at for hit in hits}
    if not chain or any(at in hit_lines for e in chain for at in range(e.first, e.after)):
        return
    last = next((e for e in chain if e.is_group), chain[-1])
    root = next((e for e in chain if not e.is_group), last)
    evidence = _excerpt(root.text)
    because = f", because of {evidence}" if root != last else ""
    cure = "the full traceback is in the rank's log"
    cause = f"the engine failed: {_excerpt(last.text)}{because}"
    yield Diagnosis(cause, evidence, cure, "exception", Weight.FAILED)


def _unexplained(end: End | None) -> Iterator[Diagnosis]:
    """A diagnosis from the exit code and restarts alone, for an end that no line explains."""
    if not end or not (end.exit_code or end.restarts):
        return
    if end.exit_code == 137:
        cause = (
            "the rank was ended by SIGKILL, but not for lack of memory: SGLang does this when a "
            "child fails"
        )
    elif not end.exit_code:
        cause = f"the rank ended and was restarted, {end.restarts} times"
    elif end.exit_code - 128 in set(Signals):
        cause = f"the rank was ended by {Signals(end.exit_code - 128).name}"
    else:
        cause = f"the rank ended with exit code {end.exit_code}"
    evidence = f"exit code {end.exit_code}, restarts {end.restarts}"
    cure = "read the rank's whole log, and those of the other ranks"
    yield Diagnosis(cause, evidence, cure, "ended", Weight.CONSEQUENCE)

"""The table of symptoms: each is shown by the real lines it carries, and no pattern is slow."""

from __future__ import annotations

import re
import tomllib
from string import Formatter
from time import process_time

import pytest

from cluster.engine import log
from cluster.engine.diagnosis import End, diagnose, docker_error
from cluster.engine.symptoms import (
    SYMPTOMS,
    Symptom,
    Weight,
    harmless,
    mentions,
    noise,
    symptoms,
)

BEFORE = "[2026-11-23 07:38:16 TP0] Init parallel begin."
BY_KEY = [
    pytest.param(kind, s, id=f"{kind} {s.key}")
    for kind in ("engine", "docker")
    for s in symptoms(kind)
]


def diagnose_example(kind: str, example: str) -> list:
    if kind == "docker":
        symptom = docker_error(
            f"1ab2: Pulling fs layer\n{example}\n\nRun 'docker run --help' for more"
        )
        return [symptom] if symptom else []
    return list(diagnose([BEFORE, *example.split("\n")]))


@pytest.mark.parametrize(("kind", "symptom"), BY_KEY)
def test_each_example_shows_its_own_symptom_alone(kind: str, symptom: Symptom) -> None:
    assert symptom.examples
    for example in symptom.examples:
        assert [d.key for d in diagnose_example(kind, example)] == [symptom.key], example
        (diagnosis,) = diagnose_example(kind, example)
        assert diagnosis.weight is symptom.weight
        assert diagnosis.evidence.strip("…")[:60] in example


@pytest.mark.parametrize(("kind", "symptom"), BY_KEY)
def test_a_diagnosis_names_what_its_line_names(kind: str, symptom: Symptom) -> None:
    diagnoses = [str(d) for example in symptom.examples for d in diagnose_example(kind, example)]
    for text in symptom.quoted:
        assert any(text in diagnosis for diagnosis in diagnoses), text


@pytest.mark.parametrize("line", harmless())
def test_a_harmless_line_shows_no_symptom(line: str) -> None:
    assert diagnose([line], End(0)) == ()


@pytest.mark.parametrize(("kind", "symptom"), BY_KEY)
def test_each_example_fills_the_words_of_the_cause(kind: str, symptom: Symptom) -> None:
    parts = list(Formatter().parse(symptom.cause))
    wanted = "".join(re.escape(text) + ("(.+)" if word else "") for text, word, _, _ in parts)
    words = [word for _, word, _, _ in parts if word]
    for example in symptom.examples:
        (diagnosis,) = diagnose_example(kind, example)
        match = re.fullmatch(wanted, diagnosis.cause)
        assert match, diagnosis.cause
        for word, text in zip(words, match.groups(), strict=True):
            assert text in example or text == f"the {word}"
    assert not {"{", "}"} & set(diagnosis.cause)


@pytest.mark.parametrize(("kind", "symptom"), BY_KEY)
def test_every_pattern_match_contains_its_search_text(kind: str, symptom: Symptom) -> None:
    for line in (line for e in symptom.examples for line in e.split("\n")):
        for expression in symptom.lines:
            if match := expression.pattern.search(line):
                assert expression.text in match[0]


def test_covered_symptoms_exist_and_every_word_of_a_text_has_its_group() -> None:
    table = tomllib.loads(SYMPTOMS.read_text())
    entries = [*table["engine"], *table["docker"]]
    keys = {entry["key"] for entry in entries}
    texts = [t for e in entries for t in (*e["lines"], e.get("shown_by", ""))]
    groups = {g for t in (*texts, *table["mentions"]) for g in re.compile(t).groupindex}
    for entry in entries:
        words = {
            w.lower() for t in ("cause", "cure") for _, w, _, _ in Formatter().parse(entry[t]) if w
        }
        assert set(entry.get("covers", [])) <= keys
        assert words <= groups
        assert {entry["needs"]} <= groups if "needs" in entry else True


def test_symptom_keys_are_unique_within_their_kind() -> None:
    for kind in ("engine", "docker"):
        keys = [s.key for s in symptoms(kind)]
        assert sorted(keys) == sorted(set(keys))


# ---- the time that it takes

PATTERNS = [
    *(
        (f"{kind} {s.key}", e.pattern)
        for kind in ("engine", "docker")
        for s in symptoms(kind)
        for e in (*s.lines, *filter(None, (s.healed_by, s.shown_by)))
    ),
    *(("noise or mention", e.pattern) for e in (*noise(), *mentions())),
    *((f"phase {words}", pattern) for pattern, words in log.PHASES),
    *(("transport", pattern) for pattern in log.VERDICTS),
    ("exception", log.RAISED),
    *(("bindings", log.NOISE), ("controls", log.CONTROLS)),
]
LENGTH = 20_000
# A linear pattern takes some 2 ms for them, a quadratic one a minute.
SECONDS = 0.5


def literal(pattern: str) -> str:
    """The plain text at the beginning of a pattern, so that it is tried in earnest."""
    return re.split(r"[\\^$.|?*+()\[\]{}]", pattern.lstrip("^("))[0]


@pytest.mark.parametrize(
    "signs", ["a", "A", "0", " ", "/", ".", "'", "-", "a.", "A ", ": ", "\x1b["]
)
def test_no_pattern_is_slower_than_linear(signs: str) -> None:
    run = signs * (LENGTH // len(signs))
    for name, pattern in PATTERNS:
        for line in (run, f"{literal(pattern.pattern)}{run}"):
            begun = process_time()
            pattern.search(line)
            assert process_time() - begun < SECONDS, (name, pattern.pattern)


@pytest.mark.parametrize("sign", ["A", " ", "/", ".", "\x1b", "\r", "\x9d", "\t"])
def test_a_line_of_a_megabyte_is_read_quickly(sign: str) -> None:
    line = f'INFO:     10.0.0.7:1234 - "GET /{sign * 2**20} HTTP/1.1" 404 Not Found'
    begun = process_time()
    assert diagnose([line], End(0)) == ()
    docker_error(line)
    log.meaningful_lines([line], 12)
    log.phase([line])
    log.transport([line])
    assert process_time() - begun < SECONDS


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('INFO:     10.0.0.7:1234 - "GET /' + "A" * 1960, id="path"),
        pytest.param("RuntimeError: NCCL error: unhandled system error " + "x" * 1950, id="hit"),
    ],
)
def test_a_whole_log_of_long_lines_is_read_in_seconds(line: str) -> None:
    """4,000 lines of 2,000 characters: as much as the doctor reads of a rank."""
    begun = process_time()
    diagnose([line] * 4_000, End(1))
    assert process_time() - begun < 10


def test_a_symptom_at_the_end_of_a_long_line_is_found() -> None:
    (diagnosis,) = diagnose([f"{'x' * 100_000} CUDA out of memory. Tried to allocate 2.00 GiB"])
    assert (diagnosis.key, diagnosis.weight) == ("cuda-oom", Weight.CAUSE)

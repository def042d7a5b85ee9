"""The stub engine of the simulated cluster: its right answers pass, each kind of its nonsense is
found by the probe that is there for it; and what is reported of a verdict."""

from __future__ import annotations

import pytest
from probe_replies import ALL
from right_answers import STUB, replies

from cluster.findings import Level
from cluster.probes.abilities import Abilities
from cluster.probes.judges import ProbeVerdict, judge
from cluster.probes.report import QUOTED, SUMMARY, verdict_findings
from cluster.probes.rounds import probe_rounds

BASIC = Abilities(basic=True, speculative=True, ceiling=4)
# Kind -> the probe that is there for it.
PROBES = {
    "sums": "arithmetic",
    "bangs": "text",
    "loop": "text",
    "echo": "text",
    "broken": "script",
    "tools": "tools",
    "arguments": "tools",
    "thoughts": "reasoning",
    "neighbours": "concurrency",
    "unlikely": "logprobs",
    "ceiling": "speculation",
    "empty": "text",
}


def wrong(abilities: Abilities, kind: str) -> set[str]:
    came = replies(probe_rounds(abilities, "stub/model"), kind)
    verdicts = judge(abilities, came, strict=True)
    assert all(verdict.fails is (verdict.outcome == "wrong") for verdict in verdicts)
    return {verdict.name for verdict in verdicts if verdict.outcome == "wrong"}


def test_every_kind_of_nonsense_has_its_probe() -> None:
    assert set(PROBES) == set(STUB.NONSENSE)


@pytest.mark.parametrize("abilities", [ALL, BASIC], ids=["full", "basic"])
def test_the_stubs_own_answers_are_right(abilities: Abilities) -> None:
    came = replies(probe_rounds(abilities, "stub/model"))
    assert {verdict.outcome for verdict in judge(abilities, came)} == {"right"}


@pytest.mark.parametrize(("kind", "probe"), PROBES.items())
def test_nonsense_is_found_by_its_probe(kind: str, probe: str) -> None:
    assert probe in wrong(ALL, kind)


@pytest.mark.parametrize("kind", ["bangs", "loop", "neighbours", "unlikely", "ceiling", "empty"])
def test_a_basic_probing_finds_what_needs_no_chat(kind: str) -> None:
    assert PROBES[kind] in wrong(BASIC, kind)


# ---- what is reported


def verdict(outcome: str = "wrong", **more: object) -> ProbeVerdict:
    fields = {"name": "second script", "outcome": outcome, "question": "q", "answer": "a"}
    return ProbeVerdict(**{**fields, **more})  # type: ignore[arg-type]


def test_a_wrong_answer_is_an_error_with_its_question_and_its_causes() -> None:
    one = verdict(fails=True, why="41 is wrong", causes=("a kernel", "a repack"))
    finding, _ = verdict_findings([one], "spark-1", 3.0)
    assert (finding.level, finding.where) == (Level.ERROR, "spark-1")
    assert finding.key == "probe-second-script"
    assert "41 is wrong; sent 'q', answered 'a'" in finding.what
    assert finding.cure.startswith("likely a kernel; or a repack; ")


def test_an_unproven_probe_warns_and_says_on_what_it_was_tried() -> None:
    finding, _ = verdict_findings([verdict(tried_on="no model yet")], "spark-1", 3.0)
    assert finding.level is Level.WARNING
    assert finding.what.endswith("not proven on real models (no model yet)")


def test_the_summary_counts_and_says_why_a_probe_was_skipped() -> None:
    three = [
        verdict("right", name="text"),
        verdict("skipped", name="tools", why="no parser"),
        verdict("right", name="script"),
    ]
    text, script, finding = verdict_findings(three, "spark-1", 12.34)
    assert (text.key, script.key, finding.key) == ("probe-text", "probe-script", SUMMARY)
    assert {one.level for one in (text, script, finding)} == {Level.OK}
    assert text.what == "text is right: sent 'q', answered 'a'"
    assert (
        finding.what
        == "probes, 12.3 s: 2 right (text, script), 1 skipped (tools); tools: no parser"
    )


def test_an_answer_is_quoted_in_part_and_printable() -> None:
    long = verdict(answer="\x1b[31m" + "x" * 9999, fails=True)
    finding, _ = verdict_findings([long], "spark-1", 1.0)
    assert len(finding.what) < 3 * QUOTED
    assert "\x1b" not in str(finding)

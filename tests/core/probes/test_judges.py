"""What each probe finds right, wrong or not to be judged."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings as profile, strategies as st
from probe_replies import ALL, BASIC, MODEL, Answers, metrics, replies

from cluster.probes.abilities import Abilities
from cluster.probes.exchange import DEADLINE, ProbeReply
from cluster.probes.judges import ProbeVerdict, judge, metric
from cluster.probes.questions import questions, spelled
from cluster.probes.rounds import TOGETHER, probe_rounds
from cluster.probes.thresholds import THRESHOLDS, ProbeLimits, thresholds

QUIET = Abilities(quiet=ALL.quiet)


def outcomes(verdicts: tuple[ProbeVerdict, ...]) -> dict[str, str]:
    return {verdict.name: verdict.outcome for verdict in verdicts}


def changed(abilities: Abilities, answers: dict[str, dict[str, Any]]) -> tuple[ProbeVerdict, ...]:
    """The verdicts on right answers, some of whose fields differ."""

    def change(right: Answers) -> None:
        for id, fields in answers.items():
            right[id].update(fields)

    return judge(abilities, replies(abilities, change))


@pytest.mark.parametrize("abilities", [ALL, BASIC, QUIET, Abilities()])
def test_right_answers_are_right(abilities: Abilities) -> None:
    verdicts = judge(abilities, replies(abilities))
    assert not [verdict for verdict in verdicts if verdict.outcome == "wrong"]
    assert not [verdict for verdict in verdicts if verdict.fails]
    if abilities == ALL:
        assert set(outcomes(verdicts).values()) == {"right"}


SUMS = ("sum", "same sum")
LOOP = "and then the cat sat on the mat, " * 6
FAULTS: list[Any] = [
    # probe, the answers that differ, a word of the reason
    ("arithmetic", {"sum": {"content": "7"}, "same sum": {"content": "12"}}, "answered wrong"),
    ("arithmetic", {id: {"content": "I don't know."} for id in SUMS}, "answered wrong"),
    ("text", {"essay": {"content": "!" * 40}}, "exclamation"),
    ("text", {"essay": {"content": "The sun " + "is " * 20}}, "in a row"),
    ("text", {"essay": {"content": LOOP}}, "in a row"),
    ("text", {"essay": {"content": "水水水水水水水水水水水水水水水水水水"}}, "in a row"),
    ("text", {"essay": {"content": "Rain f\ufffdalls."}}, "U+FFFD"),
    ("text", {"essay": {"content": "Rain\x00 falls."}}, "U+0000"),
    ("text", {"essay": {"content": "Rain \ud83d falls."}}, "U+D83D"),
    ("text", {"essay": {"content": "Rain falls.<|im_end|>"}}, "<|im_end|>"),
    ("text", {"essay": {"content": ""}}, "empty"),
    ("text", {"product": {"content": questions().short[0].text}}, "repeats the question"),
    ("script", {"script, whole": {"content": "It is a large city in the south."}}, "Chinese"),
    ("script", {"script, streamed": {"content": "这座\ufffd\ufffd有着悠久的历史"}}, "U+FFFD"),
    ("tools", {"tool, whole": {"calls": []}}, "no tool call"),
    ("tools", {"tool, whole": {"calls": [("get_weather", '{"city": "Par')]}}, "not JSON"),
    ("tools", {"tool, whole": {"calls": [("get_weather", "[1]")]}}, "lack the city"),
    ("tools", {"tool, streamed": {"calls": [("get_time", "{}")]}}, "no tool"),
    ("tools", {"tool, parsed": {"content": "<tool_call>{}</tool_call>", "calls": []}}, "<tool_"),
    ("tools", {"tool, parsed": {"content": "[TOOL_CALLS] [{}]", "calls": []}}, "[TOOL_CALLS]"),
    ("reasoning", {"thought": {"reasoning": "", "content": "91 is 7 * 13."}}, "no thoughts"),
    ("reasoning", {"thought": {"content": "</think> No."}}, "</think>"),
    ("reasoning", {"essay": {"content": "Let me see</think>Rain falls."}}, "</think>"),
    ("reasoning", {"essay": {"reasoning": "Let me see."}}, "switched off"),
    ("concurrency", {f"week{TOGETHER}": {"content": "Paris"}}, "otherwise"),
    ("concurrency", {f"week{TOGETHER}": {"content": "77777"}}, "otherwise"),
    ("concurrency", {f"capital{TOGETHER}": {"content": ""}}, "otherwise"),
    ("logprobs", {"passage": {"logprobs": [None, *[-10.8] * 60]}}, "unlikely"),
    ("logprobs", {"passage": {"logprobs": [None, *[float("nan")] * 60]}}, "unlikely"),
    ("logprobs", {"passage": {"logprobs": [None, *[-2.0] * 30, None, -2.0]}}, "unlikely"),
    ("logprobs", {"passage": {"logprobs": [None] * 60}}, "unlikely"),
]


@pytest.mark.parametrize(("probe", "answers", "why"), FAULTS)
def test_a_fault_is_wrong_and_says_why(probe: str, answers: Any, why: str) -> None:
    verdicts = {verdict.name: verdict for verdict in changed(ALL, answers)}
    assert verdicts[probe].outcome == "wrong", verdicts
    assert why in verdicts[probe].why
    assert verdicts[probe].causes
    assert verdicts[probe].tried_on


HARMLESS: list[Any] = [
    {"sum": {"content": "{first} + {second} = {sum}"}},
    {"sum": {"content": "The answer is {sum}."}},
    {"same sum": {"content": "The box then holds {words} apples."}},
    {"sum": {"content": "7"}},
    {"same sum": {"content": "I don't know."}},
    # A character that the limit of tokens cut is not the model's fault.
    {"script, streamed": {"content": "这座城市有着悠久的历\ufffd", "finish": "length"}},
    {"week": {"content": "There are seven days in a week."}},
    {"capital": {"content": "**{city}**"}, f"capital{TOGETHER}": {"content": "It is {city}."}},
    {"essay": {"content": "One! Two!! Three!!!\n\n- a\n- b\n- c\n- d\n- e\n- f\n"}},
    {"tool, parsed": {"content": "I can't look that up.", "calls": []}},
    {"essay": {"content": "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |"}},
    {"essay": {"content": "ha ha ha, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16"}},
]


@pytest.mark.parametrize("answers", HARMLESS)
def test_what_right_models_do_as_well_is_right(answers: Any) -> None:
    total = int(questions().arithmetic[0].answer)
    words = {"first": total - 20, "second": 20, "sum": total, "words": spelled(total)}
    filled = {
        id: {k: v.format(**words, city=questions().city) if k == "content" else v
             for k, v in fields.items()}
        for id, fields in answers.items()
    }  # fmt: skip
    assert "wrong" not in outcomes(changed(ALL, filled)).values()


def test_an_answer_that_the_limit_cuts_is_a_warning() -> None:
    way = {"content": "To add the two numbers, we first write them below", "finish": "length"}
    (verdict,) = (v for v in changed(ALL, dict.fromkeys(SUMS, way)) if v.name == "arithmetic")
    assert (verdict.outcome, verdict.fails) == ("wrong", False)
    assert "within 64 tokens" in verdict.why


@pytest.mark.parametrize("misses", range(6))
def test_a_small_model_may_miss_two_continuations(misses: int) -> None:
    ids = [question.id for question in questions().continuations]
    found = outcomes(changed(BASIC, {id: {"content": "the"} for id in ids[:misses]}))
    assert found["continuation"] == ("right" if misses <= 2 else "wrong")


@pytest.mark.parametrize(
    ("steps", "tokens", "outcome"),
    [(200, 225, "wrong"), (200, 825, "wrong"), (200, 500, "right"), (10, 30, "skipped")],
    ids=["none", "all", "some", "few"],
)
def test_accepted_drafts(steps: int, tokens: int, outcome: str) -> None:
    counts = {"generation_tokens_total": tokens, "num_requests_total": 25}
    after = metrics({**counts, "spec_verify_calls_total": steps})
    before = metrics(dict.fromkeys([*counts, "spec_verify_calls_total"], 0.0))
    bodies = {"metrics before": before, "metrics after": after}
    came = [replace(r, body=bodies.get(r.id, r.body)) for r in replies(ALL)]
    assert outcomes(judge(ALL, came))["speculation"] == outcome


def test_an_engine_without_counters_is_not_judged_by_them() -> None:
    came = [replace(r, body="") if r.id.startswith("metrics") else r for r in replies(ALL)]
    assert outcomes(judge(ALL, came))["speculation"] == "skipped"


# Of /metrics of real SGLang 0.5.11 on an H100, with a draft (STANDALONE, 3 steps, 4 draft tokens)
# of random weights: it has no counter of steps.
RECORDED = """\
sglang:spec_accept_length{engine_type="unified",model_name="rand-7b",tp_rank="0"} 1.0
sglang:spec_accept_rate{engine_type="unified",model_name="rand-7b",tp_rank="0"} 0.0
sglang:generation_tokens_total{engine_type="unified",model_name="rand-7b"} 1380.0
sglang:num_requests_total{engine_type="unified",model_name="rand-7b"} 26.0
"""


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        (RECORDED, "wrong"),
        (RECORDED.replace(" 1.0\n", " 2.7\n"), "right"),
        (RECORDED.replace(" 1.0\n", " 4.0\n"), "wrong"),
        (RECORDED.replace(" 1380.0\n", " 90.0\n"), "skipped"),
        (RECORDED.partition("\n")[2], "skipped"),
    ],
    ids=["recorded", "some", "all", "few tokens", "no length"],
)
def test_the_accept_length_of_an_engine_that_counts_no_steps(after: str, outcome: str) -> None:
    bodies = {"metrics before": "", "metrics after": after}
    came = [replace(r, body=bodies.get(r.id, r.body)) for r in replies(ALL)]
    assert outcomes(judge(ALL, came))["speculation"] == outcome


@pytest.mark.parametrize(
    ("reply", "outcome", "fails"),
    [
        (ProbeReply("", 0, why=DEADLINE), "wrong", False),
        (ProbeReply("", 200, why=DEADLINE, events=('{"choices": []}',)), "wrong", False),
        (ProbeReply("", 0, why="connection refused"), "wrong", True),
        (ProbeReply("", 500, "boom"), "wrong", True),
        (ProbeReply("", 200, "<html>"), "wrong", True),
        (ProbeReply("", 200, '{"choices": []}'), "wrong", True),
        (ProbeReply("", 400, "no chat template"), "skipped", False),
        (ProbeReply("", 422, "unknown field"), "skipped", False),
    ],
)
def test_no_answer(reply: ProbeReply, outcome: str, fails: bool) -> None:
    # What is refused can't be judged; what is late is reported, as a busy server explains it.
    came = [replace(reply, id=r.id) if r.id == "sum" else r for r in replies(ALL)]
    (verdict,) = (v for v in judge(ALL, came) if v.name == "arithmetic")
    assert verdict.outcome == outcome
    assert verdict.fails == (fails and thresholds().proven("arithmetic"))
    (strict,) = (v for v in judge(ALL, came, strict=True) if v.name == "arithmetic")
    assert strict.fails == (outcome == "wrong")


def test_nothing_at_all_came() -> None:
    for abilities in (ALL, BASIC):
        verdicts = judge(abilities, [])
        assert "right" not in outcomes(verdicts).values()
        assert not [verdict for verdict in verdicts if verdict.fails]


def test_endless_thoughts_are_not_judged_as_answers() -> None:
    thinks = {"content": "", "calls": [], "reasoning": "Hmm, let me see.", "finish": "length"}
    abilities = replace(ALL, quiet=None, thinking=None, silenced=False)
    ids = [request.id for one in probe_rounds(abilities, MODEL) for request in one.requests]
    skip = {"passage", "metrics before", "metrics after"}
    found = outcomes(changed(abilities, {id: thinks for id in ids if id not in skip}))
    assert found == {
        "arithmetic": "skipped",
        "text": "right",
        "script": "skipped",
        "tools": "skipped",
        "reasoning": "skipped",
        "concurrency": "skipped",
        "speculation": "right",
        "logprobs": "right",
    }


def test_thoughts_that_nobody_parses_are_not_judged_as_answers() -> None:
    thinks = {"content": "<think>\nThe user asks for a sum. Let me", "finish": "length"}
    found = outcomes(changed(Abilities(), {"sum": thinks, "same sum": thinks}))
    assert found["arithmetic"] == "skipped"
    ended = {"content": "<think>\nEasy.</think>\n7, no:", "finish": "length"}
    assert outcomes(changed(Abilities(), dict.fromkeys(SUMS, ended)))["arithmetic"] == "wrong"


# ---- whatever a server sends

JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "delta", "content", "tool_calls", "function", "arguments",
             "index", "logprobs", "token_logprobs", "finish_reason", "text", "name"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@profile(max_examples=150, deadline=None)
@given(st.lists(JUNK | st.text(max_size=30), max_size=4), st.integers(0, 999), st.booleans())
def test_no_reply_breaks_a_judge(bodies: list[Any], status: int, streamed: bool) -> None:
    texts = [b if isinstance(b, str) else json.dumps(b) for b in bodies] or [""]
    for abilities in (ALL, BASIC):
        came = [
            ProbeReply(r.id, status if n % 2 else 200, texts[0], tuple(texts) if streamed else ())
            for n, r in enumerate(replies(abilities))
        ]
        verdicts = judge(abilities, came, strict=True)
        assert {v.outcome for v in verdicts} <= {"right", "wrong", "skipped"}


def test_deep_nesting_is_no_answer() -> None:
    came = [replace(r, body="[" * 100_000, events=()) for r in replies(BASIC)]
    assert outcomes(judge(BASIC, came))["continuation"] == "wrong"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sglang:x 3\n", 3.0),
        ('sglang:x{a="1"} 3\nsglang:x{a="2"} 4.5\n', 7.5),
        ("sglang:xy 3\n# HELP sglang:x 9\n", 0.0),
        ("sglang:x 1e3\r\n", 1000.0),
        ("sglang:x +-e\n", 0.0),
        ("", 0.0),
    ],
)
def test_a_metric_is_summed_over_its_labels(text: str, value: float) -> None:
    assert metric(text, "sglang:x") == value


# ---- what is asked


@pytest.mark.parametrize(
    "bits",
    list(product([True, False], repeat=5)),
    ids=lambda bits: "".join(map(str, map(int, bits))),
)
def test_all_requests_are_bounded(bits: tuple[bool, ...]) -> None:
    basic, tools, thoughts, switch, speculative = bits
    fields: dict[str, Any] = {"enable_thinking": False} if switch else {}
    abilities = Abilities(
        basic=basic, tool_parser=tools, reasoning_parser=thoughts, speculative=speculative,
        quiet=fields or None, thinking={"x": 1} if switch else None, silenced=switch,
    )  # fmt: skip
    asked = [(request, one.together) for one in probe_rounds(abilities, MODEL)
             for request in one.requests]  # fmt: skip
    tokens = [(request.body or {}).get("max_tokens", 0) for request, _ in asked]
    assert sum(tokens) <= 1_200
    alone = sum(n for n, (_, together) in zip(tokens, asked, strict=True) if not together)
    # Eight at once take as long as the longest of them.
    assert (alone + max(tokens)) / 20 <= 60
    assert sum(together for _, together in asked) == 8
    assert len({request.id for request, _ in asked}) == len(asked)
    for request, _ in asked:
        json.dumps(request.body)
        assert request.body is None or request.body["model"] == MODEL
        assert request.stream == bool((request.body or {}).get("stream"))


def test_a_deploy_always_sends_the_same_questions() -> None:
    assert probe_rounds(ALL, MODEL) == probe_rounds(ALL, MODEL, questions(0))
    assert questions(1) != questions(0)


@pytest.mark.parametrize("seed", range(60))
def test_questions_of_every_seed_have_one_answer(seed: int) -> None:
    about = questions(seed)
    first, second = about.arithmetic
    left, right = (int(n) for n in first.text.split("?")[0].split()[2::2])
    assert left + right == int(first.answer) == int(second.answer)
    assert second.text.startswith(f"Add {right} to {left}. ")
    assert spelled(left + right) == first.other == second.other
    assert all(question.answer not in question.text.split() for question in about.short)


# ---- thresholds.toml


def test_the_file_of_thresholds_is_whole() -> None:
    table = thresholds()
    names = {v.name for a in (ALL, BASIC) for v in judge(a, replies(a))}
    assert set(table.causes) == names
    assert {trial.probe for trial in table.measured.trials} <= names
    assert all(trial.alarms <= trial.runs for trial in table.measured.trials)
    assert all(found.caught <= found.runs for found in table.measured.detections)
    assert THRESHOLDS.is_file()


def test_only_a_proven_probe_fails_a_switch() -> None:
    for probe, answers, _ in FAULTS:
        (verdict,) = (v for v in changed(ALL, answers) if v.name == probe)
        assert verdict.fails == thresholds().proven(probe)
    limits: ProbeLimits = thresholds().limits
    assert 1 - 0.05 ** (1 / limits.proven_runs) < 0.015

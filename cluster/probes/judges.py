"""What is wrong with the answers, probe by probe."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cluster.probes import rounds
from cluster.probes.abilities import Abilities
from cluster.probes.exchange import Answer, ProbeReply, read_answer
from cluster.probes.nonsense import THOUGHT_TAGS, TOOL_TAGS, nonsense
from cluster.probes.questions import Question, Questions, questions
from cluster.probes.rounds import TOGETHER
from cluster.probes.thresholds import ProbeLimits, thresholds

Outcome = Literal["right", "wrong", "skipped"]
# Of a reply, as far as a report shows it.
SHOWN_CHARACTERS = 300
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
# Han: the script of the question that is not in Latin letters.
HAN = re.compile(r"[\u3400-\u9fff]")
NO_ANSWER = Answer(trouble="late", problem="gets no answer")


@dataclass(frozen=True)
class ProbeVerdict:
    """What one probe found.

    + question, answer: what was sent and replies, in short; as the server sent it, so not printable
    + why: what is wrong, or why the probe was skipped; "" where all is right
    + causes: what usually causes it, the likeliest first
    + tried_on: on what this probe was right, and how often
    + fails: whether it is wrong and that fails a switch; otherwise it is a warning
    """

    name: str
    outcome: Outcome
    question: str = ""
    answer: str = ""
    why: str = ""
    causes: tuple[str, ...] = ()
    tried_on: str = ""
    fails: bool = False


@dataclass(frozen=True)
class ProbeReplies:
    """What replies, read once.

    + about: the questions that were sent; abilities: those that chose them
    + answers, metrics: by the id of the request
    """

    about: Questions
    abilities: Abilities
    limits: ProbeLimits
    answers: Mapping[str, Answer]
    metrics: Mapping[str, str]

    def of(self, *ids: str) -> list[tuple[str, Answer]]:
        return [(id, self.answers.get(id, NO_ANSWER)) for id in ids]


class NotRight(Exception):
    """Ends a judgment: something is wrong, or nothing can be said.

    + doubtful: time or tokens ran out, which happens to right models as well: never fails a switch
      but by `strict`
    """

    def __init__(
        self,
        outcome: Outcome,
        why: str,
        answer: str = "",
        question: str = "",
        *,
        doubtful: bool = False,
    ) -> None:
        super().__init__(why)
        self.outcome: Outcome = outcome
        self.why, self.answer, self.question, self.doubtful = why, answer, question, doubtful


def judge(
    abilities: Abilities,
    replies: Sequence[ProbeReply],
    *,
    strict: bool = False,
    about: Questions | None = None,
) -> tuple[ProbeVerdict, ...]:
    """A verdict for each probe that the abilities allow, and for each that they rule out.

    + replies: to the requests of `probe_rounds` for the same abilities; a missing one counts as
      one that came too late
    + strict: every wrong probe fails a switch, on whatever it was tried
    + about: the questions that were sent; None: a deploy's
    """
    metrics = {reply.id: reply.body for reply in replies if reply.id.startswith("metrics ")}
    answers = {reply.id: read_answer(reply) for reply in replies if reply.id not in metrics}
    sent = ProbeReplies(about or questions(), abilities, thresholds().limits, answers, metrics)
    probes = BASIC if abilities.basic else FULL
    return tuple(verdict_of(name, probe, sent, strict) for name, probe in probes.items())


def verdict_of(name: str, probe: "Probe", replies: ProbeReplies, strict: bool) -> ProbeVerdict:
    """What one probe finds; parameters as for `judge`."""
    table = thresholds()
    verdict = ProbeVerdict(name, "right", tried_on=table.tried_on(name))
    try:
        question, answer = probe(replies)
    except NotRight as end:
        wrong = end.outcome == "wrong"
        return replace(
            verdict,
            outcome=end.outcome,
            question=end.question,
            answer=end.answer[:SHOWN_CHARACTERS],
            why=end.why,
            causes=table.causes[name] if wrong and not end.doubtful else (),
            fails=wrong and (strict or (table.proven(name) and not end.doubtful)),
        )
    return replace(verdict, question=question, answer=answer[:SHOWN_CHARACTERS])


# ---- the probes: each returns its question and the answer if all is right, or raises NotRight


def arithmetic(replies: ProbeReplies) -> tuple[str, str]:
    """A sum's result is the first or last number of the answer to one of its wordings."""
    return _right(replies, replies.about.arithmetic, _first_or_last, replies.limits.sums_right)


def continuation(replies: ProbeReplies) -> tuple[str, str]:
    """Most texts go on with the one word or number that every model knows."""
    return _right(
        replies, replies.about.continuations, _first_words, replies.limits.continuations_right
    )


def text(replies: ProbeReplies) -> tuple[str, str]:
    """No answer of any probe is nonsense, an echo, or nothing at all."""
    readable = {id: answer for id, answer in replies.answers.items() if not answer.trouble}
    echoes = {q.id: q.text for q in (*replies.about.arithmetic, *replies.about.short)}
    for id, answer in readable.items():
        echo = "" if replies.abilities.basic else echoes.get(id.removesuffix(TOGETHER), "")
        why = nonsense(answer.text, replies.limits, cut=answer.finish == "length")
        if why:
            raise NotRight("wrong", f"the answer to `{id}`: {why}", answer.text, id)
        if echo and answer.content.strip().casefold() == echo.casefold():
            raise NotRight(
                "wrong", f"the answer to `{id}` only repeats the question", answer.text, id
            )
        if not (answer.text.strip() or answer.calls or id == "passage"):
            raise NotRight("wrong", f"the answer to `{id}` is empty", "", id)
    if not readable:
        _readable(replies.of("essay"))
        raise NotRight("skipped", "no answer can be read")
    sample = next(iter(readable))
    return sample, readable[sample].text


def script(replies: ProbeReplies) -> tuple[str, str]:
    """A request in Chinese is answered in Chinese, whole and streamed."""
    answers = _readable(replies.of("script, whole", "script, streamed"))
    for id, answer in answers:
        why = nonsense(answer.text, replies.limits, cut=answer.finish == "length")
        if why:
            raise NotRight(
                "wrong", f"the answer to `{id}`: {why}", answer.text, replies.about.script
            )
        if answer.unfinished:
            raise NotRight("skipped", _thinking(id), answer.reasoning, replies.about.script)
        count = len(HAN.findall(answer.content))
        if count < replies.limits.script_characters:
            why = f"the answer to `{id}` has {count} Chinese characters"
            raise NotRight("wrong", why, answer.content, replies.about.script)
    return replies.about.script, answers[0][1].content


def tools(replies: ProbeReplies) -> tuple[str, str]:
    """A required call has arguments of the schema, the same whole and streamed, and no tag of the
    parser is in any content."""
    if not replies.abilities.tool_parser:
        raise NotRight("skipped", "the model is served without a tool parser")
    ids = [id for id, _, _ in rounds.TOOL_REQUESTS]
    given = replies.of(*ids)
    for id, answer in given:
        if tag := TOOL_TAGS.search(answer.content):
            why = f"the content of `{id}` holds the parser's {tag[0]}"
            raise NotRight("wrong", why, answer.content, replies.about.weather)
    arguments = []
    for id, answer in _readable(given[:2]):
        if answer.unfinished:
            raise NotRight("skipped", _thinking(id), answer.reasoning, replies.about.weather)
        if not answer.calls:
            raise NotRight("wrong", f"`{id}` has no tool call", answer.text, replies.about.weather)
        arguments.append(_arguments(replies.about, id, answer))
    for id, answer in given[2:]:
        # The model may answer in words; a call that it makes is right.
        if answer.calls:
            arguments.append(_arguments(replies.about, id, answer))
    if any(values != arguments[0] for values in arguments[1:2]):
        shown = " / ".join(json.dumps(values, ensure_ascii=False) for values in arguments)
        raise NotRight(
            "wrong", "the call differs, whole and streamed", shown, replies.about.weather
        )
    return replies.about.weather, json.dumps(arguments[0], ensure_ascii=False)


def reasoning(replies: ProbeReplies) -> tuple[str, str]:
    """Thoughts are in their own field, and nowhere if they are switched off."""
    abilities = replies.abilities
    if not abilities.reasoning_parser:
        raise NotRight("skipped", "the model is served without a reasoning parser")
    for id, answer in replies.answers.items():
        if tag := THOUGHT_TAGS.search(answer.content):
            why = f"the content of `{id}` holds the parser's {tag[0]}"
            raise NotRight("wrong", why, answer.content, id)
        quiet = abilities.silenced and id != "thought"
        if quiet and answer.reasoning.strip():
            why = f"`{id}` has thoughts, though thinking was switched off"
            raise NotRight("wrong", why, answer.reasoning, id)
    if not abilities.thinking:
        raise NotRight("skipped", "its entry does not know how thinking is switched on")
    ((id, answer),) = _readable(replies.of("thought"))
    if not answer.reasoning.strip():
        why = f"`{id}` has no thoughts in their own field, though thinking was switched on"
        raise NotRight("wrong", why, answer.content, rounds.THOUGHT)
    return rounds.THOUGHT, answer.reasoning


def concurrency(replies: ProbeReplies) -> tuple[str, str]:
    """A question among eight at once is answered as it was alone."""
    basic = replies.abilities.basic
    listed = replies.about.continuations if basic else replies.about.short
    same = []
    for question in listed:
        pair = _readable(replies.of(question.id, question.id + TOGETHER))
        alone, beside = (answer for _, answer in pair)
        if alone.unfinished or beside.unfinished:
            continue
        values = [_value(question, answer.content, basic) for answer in (alone, beside)]
        if values[0] != values[1]:
            why = f"`{question.id}` is answered otherwise among eight requests than alone"
            shown = f"{alone.content} / {beside.content}"
            raise NotRight("wrong", why, shown, question.text)
        same.append(values[0])
    if not same:
        raise NotRight("skipped", _thinking(listed[0].id))
    return ", ".join(question.id for question in listed), ", ".join(same)


def speculation(replies: ProbeReplies) -> tuple[str, str]:
    """Some drafts are accepted, and not all."""
    if not replies.abilities.speculative:
        raise NotRight("skipped", "the model is served without speculative decoding")
    limits, question = replies.limits, "/metrics before and after the probes"
    before, after = (replies.metrics.get(f"metrics {when}", "") for when in ("before", "after"))
    grown = {
        name: metric(after, f"sglang:{name}") - metric(before, f"sglang:{name}")
        for name in ("generation_tokens_total", "num_requests_total", "spec_verify_calls_total")
    }
    steps, tokens = grown["spec_verify_calls_total"], grown["generation_tokens_total"]
    ceiling = replies.abilities.ceiling or metric(after, "sglang:spec_num_draft_tokens")
    if steps >= limits.accept_steps:
        # Each request's first token comes with its prompt, from no step.
        length = (tokens - grown["num_requests_total"]) / steps
        shown = f"{length:.3f} tokens a step over {steps:.0f} steps"
    elif not steps and tokens >= limits.accept_steps * max(ceiling, 1):
        # SGLang 0.5.11 counts no steps; this is its mean over the last ones.
        length = metric(after, "sglang:spec_accept_length")
        shown = f"{length:.3f} tokens a step"
    else:
        why = f"/metrics counts {steps:.0f} steps of speculative decoding, too few to judge"
        raise NotRight("skipped", why, "", question)
    if not length:
        raise NotRight("skipped", "/metrics has no accept length", "", question)
    if length < limits.accept_least:
        raise NotRight("wrong", "no draft token is accepted", shown, question)
    if ceiling > 1 and abs(length - ceiling) <= limits.accept_slack:
        raise NotRight(
            "wrong", f"every draft token is accepted: {ceiling:.0f} a step", shown, question
        )
    return question, shown


def logprobs(replies: ProbeReplies) -> tuple[str, str]:
    """A passage of plain English is likely to the model."""
    ((_, answer),) = _readable(replies.of("passage"))
    values, limits = answer.logprobs, replies.limits
    if len(values) < limits.logprob_tokens:
        raise NotRight("skipped", "the engine gives no log-probabilities of a prompt")
    mean = sum(values) / len(values)
    shown = f"mean log-probability {mean:.2f} over {len(values)} tokens"
    # NaN is below every floor.
    if not mean >= limits.logprob_floor:
        why = f"plain English is unlikely to it: {mean:.2f} a token, expected above"
        raise NotRight("wrong", f"{why} {limits.logprob_floor}", shown, replies.about.passage)
    return replies.about.passage, shown


Probe = Callable[[ProbeReplies], tuple[str, str]]
FULL: Mapping[str, Probe] = {
    probe.__name__: probe
    for probe in (
        arithmetic,
        text,
        script,
        tools,
        reasoning,
        concurrency,
        speculation,
        logprobs,
    )
}
BASIC: Mapping[str, Probe] = {
    probe.__name__: probe for probe in (continuation, text, concurrency, speculation, logprobs)
}


# ---- what several of them look at


def _readable(answers: Sequence[tuple[str, Answer]]) -> list[tuple[str, Answer]]:
    """The answers, if every reply has one; raises NotRight if not."""
    for id, answer in answers:
        if answer.trouble:
            outcome: Outcome = "skipped" if answer.trouble == "refused" else "wrong"
            why = f"`{id}` {answer.problem}"
            raise NotRight(outcome, why, answer.text, id, doubtful=answer.trouble == "late")
    return list(answers)


def _right(
    replies: ProbeReplies,
    listed: Sequence[Question],
    values: Callable[[Question, str], set[str]],
    least: int,
) -> tuple[str, str]:
    """The questions and answers, if the right value is in so many answers."""
    answers = _readable(replies.of(*(question.id for question in listed)))
    wrong = []
    for question, (id, answer) in zip(listed, answers, strict=True):
        if answer.unfinished:
            raise NotRight("skipped", _thinking(id), answer.reasoning, question.text)
        if question.answer.casefold() not in values(question, answer.content):
            wrong.append((question, answer))
    # A right model may spend the tokens on the way to its answer.
    cut = not replies.abilities.basic and any(a.finish == "length" for _, a in wrong)
    if len(listed) - len(wrong) < least:
        question, answer = wrong[0]
        why = f"`{question.id}` is answered wrong: {question.answer} is right"
        more = f" ({len(wrong)} of {len(listed)} are wrong)" if len(listed) > 2 else ""
        more += f", within {rounds.ARITHMETIC_TOKENS} tokens" if cut else ""
        raise NotRight("wrong", why + more, answer.content, question.text, doubtful=cut)
    return listed[0].text, ", ".join(answer.content.strip() for _, answer in answers)


def _thinking(id: str) -> str:
    return f"`{id}` ends at the limit of its tokens, within the model's thoughts"


def _first_or_last(question: Question, content: str) -> set[str]:
    """The first and the last number of an answer, which may show how it comes to it."""
    numbers = [number.replace(",", "") for number in NUMBER.findall(content)]
    spelled = question.other and question.other in content.casefold()
    return {*numbers[:1], *numbers[-1:], *([question.answer] if spelled else ())}


def _first_words(question: Question, content: str) -> set[str]:
    """The first two words: a list may go on with "and"."""
    return set(re.findall(r"\w+", content.casefold())[:2])


def _value(question: Question, content: str, basic: bool) -> str:
    """What a short answer says: the expected word or number, if it is there, or all of it."""
    values = (_first_words if basic else _first_or_last)(question, content)
    expected, words = question.answer.casefold(), content.casefold()
    if expected in values or (not expected.isdecimal() and not basic and expected in words):
        return question.answer
    return ", ".join(sorted(values)) or " ".join(words.split())


def _arguments(about: Questions, id: str, answer: Answer) -> Mapping[str, Any]:
    """The arguments of the answer's first call; NotRight if they are not of TOOL's schema."""
    call = answer.calls[0]
    try:
        values = json.loads(call.arguments)
    except (ValueError, RecursionError):
        why = f"the arguments of `{id}` are not JSON"
        raise NotRight("wrong", why, call.arguments, about.weather) from None
    why = ""
    if call.name != rounds.TOOL_NAME:
        why = f"`{id}` calls {call.name!r}, which is no tool"
    elif not isinstance(values, dict) or not isinstance(values.get("city"), str):
        why = f"the arguments of `{id}` lack the city"
    elif about.city.casefold() not in values["city"].casefold():
        why = f"the arguments of `{id}` are of another city"
    elif values.get("unit") != "celsius" or values.keys() != {"city", "unit"}:
        why = f"the arguments of `{id}` are not of the tool's schema"
    if why:
        raise NotRight("wrong", why, call.arguments, about.weather)
    return dict(values)


def metric(exposition: str, name: str) -> float:
    """The sum of a metric over its labels in /metrics; 0 where it is not there or no number."""
    total = 0.0
    pattern = rf"^{re.escape(name)}(?:\{{[^\n]*\}})?[ \t]+([0-9.eE+-]{{1,30}})[ \t]*\r?$"
    for value in re.findall(pattern, exposition, re.MULTILINE):
        try:
            total += float(value)
        except ValueError:
            continue
    return total

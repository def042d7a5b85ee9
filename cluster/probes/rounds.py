"""What is sent, and in which order.

At most 1,200 generated tokens in all, 60 s at 20 tokens/s for one stream: a test adds up both for
every combination of abilities. An engine that thinks although that is switched off reaches the
limits, any other stops far below them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.probes.abilities import Abilities
from cluster.probes.exchange import CHAT, METRICS, PLAIN, ProbeRequest, Round
from cluster.probes.questions import Questions, questions

# Generated tokens, at most, of one answer.
ARITHMETIC_TOKENS = 64
SCRIPT_TOKENS = 64
TOOL_TOKENS = 80
REASONING_TOKENS = 128
ESSAY_TOKENS = 64
SHORT_TOKENS = 32
CONTINUATION_TOKENS = 6
PROSE_TOKENS = 40

# The other three of the eight: of other lengths, and answered at length.
FILLERS = (
    "Name three colors of the rainbow.",
    "Describe in one sentence what a bridge is for, and in another one what a tunnel is for.",
    "Write one sentence about the sea.",
)
PLAIN_FILLERS = (
    "The three primary colors are",
    "A bridge carries a road over a river. A tunnel carries a road",
    "The sea is",
)
THOUGHT = "Is 91 a prime number? Think it through step by step."
TOOL_NAME = "get_weather"
TOOL = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": "Get the current weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
        },
    },
}
# SGLang writes a required call by a grammar of its own, past the model's parser; only "auto" meets
# the parser, but lets the model answer in words.
TOOL_REQUESTS = (
    ("tool, whole", "required", False),
    ("tool, streamed", "required", True),
    ("tool, parsed", "auto", True),
)
# Ends the id of a request that is sent among the eight.
TOGETHER = ", together"


def probe_rounds(
    abilities: Abilities, model: str, about: Questions | None = None
) -> tuple[Round, ...]:
    """The requests, round by round.

    + model: the id in /v1/models
    + about: the questions; None: a deploy's, always the same
    """
    about = about or questions()
    write = RequestWriter(model, abilities.quiet or {})
    if abilities.basic:
        alone = [
            write.plain(f"essay {n}", text, PROSE_TOKENS, stream=n == 2)
            for n, text in enumerate(about.prose, 1)
        ]
        short = [write.plain(q.id, q.text, CONTINUATION_TOKENS) for q in about.continuations]
        fillers = [
            write.plain(f"filler {n}", text, CONTINUATION_TOKENS)
            for n, text in enumerate(PLAIN_FILLERS, 1)
        ]
    else:
        alone = long_questions(abilities, write, about)
        short = [write.chat(q.id, q.text, SHORT_TOKENS) for q in about.short]
        fillers = [
            write.chat(f"filler {n}", text, SHORT_TOKENS) for n, text in enumerate(FILLERS, 1)
        ]
    eight = (*(replace(one, id=f"{one.id}{TOGETHER}") for one in short), *fillers)
    passage = write.plain("passage", about.passage, 1, echo=True, logprobs=1)
    rounds = (Round((*alone, *short)), Round(eight, together=True), Round((passage,)))
    if not abilities.speculative:
        return rounds
    metrics = [Round((ProbeRequest(id, METRICS),)) for id in ("metrics before", "metrics after")]
    return (metrics[0], *rounds, metrics[1])


@dataclass(frozen=True)
class RequestWriter:
    """How requests are written for one model; quiet: what keeps its thoughts short."""

    model: str
    quiet: Mapping[str, Any]

    def chat(
        self, id: str, text: str, tokens: int, stream: bool = False, **more: Any
    ) -> ProbeRequest:
        """A question to a model with chat; `more` wins over `quiet`."""
        messages = [{"role": "user", "content": text}]
        fields = {**self.quiet, "messages": messages, **more}
        return self._request(id, CHAT, tokens, stream, fields)

    def plain(
        self, id: str, text: str, tokens: int, stream: bool = False, **more: Any
    ) -> ProbeRequest:
        """A text to continue."""
        return self._request(id, PLAIN, tokens, stream, {"prompt": text, **more})

    def _request(
        self, id: str, path: str, tokens: int, stream: bool, fields: Mapping[str, Any]
    ) -> ProbeRequest:
        body = {"model": self.model, **fields, "max_tokens": tokens, "temperature": 0}
        return ProbeRequest(id, path, {**body, "stream": True} if stream else body, stream)


def long_questions(
    abilities: Abilities, write: RequestWriter, about: Questions
) -> list[ProbeRequest]:
    """What a model with chat gets besides the short questions."""
    questions = [write.chat(q.id, q.text, ARITHMETIC_TOKENS) for q in about.arithmetic]
    questions.append(write.chat("essay", about.essay, ESSAY_TOKENS))
    questions.append(write.chat("script, whole", about.script, SCRIPT_TOKENS))
    questions.append(write.chat("script, streamed", about.script, SCRIPT_TOKENS, stream=True))
    if abilities.tool_parser:
        for id, choice, stream in TOOL_REQUESTS:
            tools = {"tools": [TOOL], "tool_choice": choice}
            questions.append(write.chat(id, about.weather, TOOL_TOKENS, stream, **tools))
    if abilities.reasoning_parser and abilities.thinking:
        thinks = write.chat("thought", THOUGHT, REASONING_TOKENS, stream=True, **abilities.thinking)
        questions.append(thinks)
    return questions

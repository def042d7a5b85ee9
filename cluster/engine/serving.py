"""What a server must answer to count as serving: ranks, model, one completion, transport."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.findings import Finding, error

QUESTION = "What is the capital of France? Answer in one sentence."
# Enough for a reasoning model to begin; any token proves that the engine generates.
PROOF_TOKENS = 16


@dataclass(frozen=True)
class EndpointReply:
    """One HTTP answer. status 0: nothing answered in time; seconds: the engine's own time."""

    status: int
    body: str = ""
    seconds: float = 0.0

    @property
    def json(self) -> Mapping[str, Any]:
        """The body as a JSON object; {} where it is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class GroupAnswers:
    """The group's responses to requests that the head sent.

    + health: of each rank, rank 0 first
    + models: /v1/models; completion: one chat completion (or a plain one, for a model without chat)
    + log: the log lines that show the transport
    + keyless: status of /v1/models without the key, where the API must require it; else 0
    """

    health: tuple[EndpointReply, ...]
    models: EndpointReply
    completion: EndpointReply
    log: tuple[str, ...] = ()
    keyless: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The ids in /v1/models."""
        return model_ids(self.models)

    @property
    def seconds(self) -> float:
        """How long the engine itself took to answer: time that a deploy spends waiting for it."""
        slowest = max((reply.seconds for reply in self.health), default=0.0)
        return slowest + self.models.seconds + self.completion.seconds

    @property
    def tokens(self) -> int:
        """Generated tokens; 0 where the answer does not say."""
        usage = self.completion.json.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else 0
        return tokens if isinstance(tokens, int) else 0


def model_ids(models: EndpointReply) -> tuple[str, ...]:
    """The ids in an answer of /v1/models."""
    return tuple(str(entry.get("id")) for entry in _objects(models.json.get("data")))


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a JSON list; [] if it is none, as anyone may answer on the port."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def question(model: str) -> str:
    """The body of the one chat completion that proves the engine generates."""
    return json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": PROOF_TOKENS,
            "temperature": 0,
        }
    )


def plain_question(model: str) -> str:
    """The same for a model without a chat template."""
    body = {"model": model, "prompt": QUESTION, "max_tokens": PROOF_TOKENS, "temperature": 0}
    return json.dumps(body)


def completion_text(completion: EndpointReply) -> str:
    """The model's text, reasoning included: gpt-oss answers there first."""
    for choice in _objects(completion.json.get("choices")):
        message = choice.get("message")
        fields = message if isinstance(message, dict) else {}
        parts = (fields.get("content"), fields.get("reasoning_content"), fields.get("reasoning"))
        return next((str(part) for part in (*parts, choice.get("text")) if part), "")
    return ""


def serving_problems(
    served: GroupAnswers, nodes: tuple[str, ...], model: str
) -> tuple[Finding, ...]:
    """Why the group does not serve the wanted model; empty where it does.

    A 200 of /health alone proves little (a worker's says only that its scheduler has loaded), nor
    does the model's name in a reply: SGLang echoes the name that a request has.
    """
    unhealthy = []
    answered = dict(zip(nodes, served.health, strict=False))
    for rank, node in enumerate(nodes):
        reply = answered.get(node, EndpointReply(0))
        if reply.status != 200:
            answer = f"answers {reply.status}" if reply.status else "does not answer"
            unhealthy.append(error(f"/health of rank {rank} {answer}", node, key="unhealthy"))
    if unhealthy:
        return tuple(unhealthy)
    completion, problem = served.completion, ""
    if locked(served):
        problem = "api key: changed (/v1/models answers 401)"
    elif served.keyless == 200:
        problem = "the API answers requests without a key"
    elif served.models.status != 200:
        problem = f"/v1/models answers {served.models.status}"
    elif model not in served.names:
        problem = f"serves {', '.join(served.names) or 'no model'}, expected {model}"
    elif completion.status != 200:
        problem = f"a completion is answered {completion.status}: {completion.body[:200]}"
    elif served.tokens < 1:
        problem = f"a completion returned no token: {completion.body[:200]}"
    return (error(problem, nodes[0], key="model-not-served"),) if problem else ()


def locked(served: GroupAnswers) -> bool:
    """The engine runs but does not accept our key, which has changed since the engine started."""
    return served.models.status == 401


def busy(served: GroupAnswers, model: str) -> bool:
    """Every rank is healthy and the model is right, but the completion did not get its turn."""
    healthy = bool(served.health) and all(reply.status == 200 for reply in served.health)
    return healthy and model in served.names and served.completion.status == 0

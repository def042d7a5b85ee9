"""Responses of every endpoint that users rely on, requested on the head."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pyinfra.api import StringCommand

from cluster.engine.serving import QUESTION, EndpointReply
from facts.fact import Fact, join
from facts.serving import COMPLETION_SECONDS, READ_KEY, curl, reply

ANSWER_TOKENS = 48


@dataclass(frozen=True)
class Endpoint:
    """One way in: its path, and the JSON to POST (None: a GET)."""

    path: str
    body: Mapping[str, object] | None = None


def endpoints(model: str, runtime: str) -> tuple[Endpoint, ...]:
    """The seed's list for SGLang; llama.cpp's own way of generating is /completion."""
    messages = [{"role": "user", "content": QUESTION}]
    limit = {"max_tokens": ANSWER_TOKENS, "temperature": 0}
    native = (
        Endpoint("/completion", {"prompt": QUESTION, "n_predict": 8})
        if runtime == "process"
        else Endpoint("/generate", {"text": QUESTION, "sampling_params": {"max_new_tokens": 8}})
    )
    return (
        Endpoint("/health"),
        Endpoint("/v1/models"),
        Endpoint("/v1/chat/completions", {"model": model, "messages": messages, **limit}),
        Endpoint("/v1/completions", {"model": model, "prompt": QUESTION, **limit}),
        native,
    )


class Endpoints(Fact[dict[str, EndpointReply]]):
    """Path → answer, for every endpoint.

    + url: where rank 0 serves, as its own node reaches it
    + model: the id to ask for
    + runtime: "docker" or "process", which decides the engine's native endpoint
    + keyed: the API wants a key, which is the first line of the command's stdin
    """

    default = staticmethod(dict[str, EndpointReply])

    def command(
        self, url: str, model: str, runtime: str = "docker", keyed: bool = False
    ) -> StringCommand:
        parts: list[StringCommand] = []
        for endpoint in endpoints(model, runtime):
            json_type = ("-H", "Content-Type: application/json")
            body = (*json_type, "-d", json.dumps(endpoint.body)) if endpoint.body else ()
            to = f"{url}{endpoint.path}"
            request = curl(to, COMPLETION_SECONDS, *body, before="\n--- ", keyed=keyed)
            parts.append(join(f"echo '=== {endpoint.path}'; ", request, "; echo\n"))
        return join(READ_KEY if keyed else "", *parts)

    def parse(self, output: list[str]) -> dict[str, EndpointReply]:
        replies: dict[str, EndpointReply] = {}
        path, body = "", list[str]()
        for line in output:
            if line.startswith("=== "):
                path, body = line.removeprefix("=== "), []
            elif line.startswith("--- "):
                replies[path] = reply(line.removeprefix("--- "), "\n".join(body).strip())
            else:
                body.append(line)
        return replies

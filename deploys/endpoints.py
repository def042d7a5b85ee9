"""Ask everything that serves, whatever the settings say, and show how to use it."""

from __future__ import annotations

import json

from pyinfra import logger
from pyinfra.api import DeployError, Host, State

from cluster.node import Rank
from cluster.readiness import Look
from cluster.serving import QUESTION, Reply, text
from cluster.spec import label
from deploys import gather, running
from deploys.converge import begin
from deploys.deployment import Deployment
from facts.endpoints import Endpoints
from facts.serving import RankLook
from operations import shell


def verify(state: State) -> None:
    """Check every rank and every endpoint of what runs; DeployError where one fails."""
    made = begin(state)
    made.facts = gather.light(made.hosts, made.wanted)
    ranks = running.ranks(made)
    head = made.hosts[made.wanted.head]
    if head.name not in ranks:
        raise DeployError(f"{head.name}: no rank 0 of ours runs -> pyinfra INVENTORY deploy.py")
    launch = label(ranks[head.name])["launch"]
    replies = _replies(
        head, running.own(launch), launch["served_model_name"], made.settings.runtime
    )
    wrong = [*_tell_ranks(made, ranks), *_tell(replies, launch["served_model_name"])]
    if wrong:
        raise DeployError(f"not everything serves: {'; '.join(wrong)}")
    _show_use(running.reached(head, launch), launch["served_model_name"])


def _replies(head: Host, url: str, model: str, runtime: str) -> dict[str, Reply]:
    answer = shell.ask(head, Endpoints().command(url, model, runtime), 600)
    return Endpoints().process(answer.out)


def _tell_ranks(made: Deployment, ranks: dict[str, Rank]) -> list[str]:
    """A line a rank; what is wrong with them."""
    count = label(ranks[made.wanted.head])["launch"]["nnodes"]
    looks = shell.on_all(
        [h for name, h in made.serving.items() if name in ranks],
        lambda h: _look(h, ranks[h.name]),
    )
    for name, look in looks.items():
        logger.info(f"    rank {label(ranks[name])['rank']}  {look}")
    sick = [f"{name}: /health answers {x.health}" for name, x in looks.items() if not x.healthy]
    if len(looks) < count:
        sick.append(f"{len(looks)} of {count} ranks run")
    return sick


def _look(host: Host, rank: Rank) -> Look:
    spec = label(rank)
    asked = RankLook().command(host.name, spec["runtime"], rank.name, running.own(spec["launch"]))
    answer = shell.ask(host, asked, 60)
    return RankLook().process(answer.out) if answer.out else Look(host.name, lost=answer.text)


def _tell(replies: dict[str, Reply], model: str) -> list[str]:
    """A line an endpoint; what is wrong with them."""
    for path, reply in replies.items():
        logger.info(f"    {reply.status}  {reply.seconds:5.2f} s  {path}")
    wrong = [f"{p} answers {r.status}" for p, r in replies.items() if r.status != 200]
    listed = replies.get("/v1/models", Reply(0)).json.get("data") or []
    if model not in [entry.get("id") for entry in listed]:
        wrong.append(f"/v1/models does not list {model}")
    said = text(replies.get("/v1/chat/completions", Reply(0)))
    logger.info(f"    asked     {QUESTION}")
    logger.info(f"    answered  {said}")
    return wrong


def _show_use(url: str, model: str) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]})
    client = f'OpenAI(base_url="{url}/v1", api_key="none")'
    logger.info("    use it:")
    logger.info(f"      curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\")
    logger.info(f"        -d '{body}'")
    logger.info("      python: from openai import OpenAI")
    logger.info(f'        {client}.chat.completions.create(model="{model}",')
    logger.info('          messages=[{"role": "user", "content": "Hello!"}])')

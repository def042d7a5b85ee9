"""Ask everything that serves, whatever the settings say, and show how to use it."""

import json
import shlex
from pathlib import Path

from pyinfra import logger
from pyinfra.api import DeployError, Host, State

from cluster.engine.readiness import RankHealth
from cluster.engine.serving import QUESTION, EndpointReply, completion_text, model_ids
from cluster.findings import Level
from cluster.node.readings import Rank
from cluster.plan.decide import exposure_findings
from cluster.rank import api_key
from cluster.rank.spec import Spec
from control import secrets
from control.converge import read_deployment
from control.deployment import Deployment
from control.inventory import api_url
from facts.endpoints import Endpoints
from facts.serving import RankLook
from operations import shell


def verify_endpoints(state: State) -> None:
    """Check every rank and every endpoint of what runs; DeployError where one fails."""
    deployment = read_deployment(state)
    ranks = deployment.decision.running_ranks
    head = deployment.hosts[deployment.declaration.head]
    specs = {node: spec for node, rank in ranks.items() if (spec := rank.spec)}
    if head.name not in specs:
        raise DeployError(f"{head.name}: no rank 0 of ours runs -> pyinfra INVENTORY deploy.py")
    spec, key_file = specs[head.name], deployment.settings.api_key_file
    launch = spec.launch
    key = _key(head, api_key.is_keyed(spec.volumes), key_file)
    replies = _replies(head, spec, key)
    wrong = [*_tell_ranks(deployment, ranks, specs), *_tell(replies, launch.served_model_name)]
    if wrong:
        raise DeployError(f"not everything is serving: {'; '.join(wrong)}")
    _show_use(api_url(head, launch), launch.served_model_name, key_file if key else "")
    for finding in exposure_findings(deployment.decision, runs=True, declared=False):
        if finding.level is Level.WARNING:
            logger.warning(f"    warning: {finding}")


def _key(head: Host, wanted: bool, key_file: str) -> str:
    """The key that the API which runs wants, or ""."""
    if not wanted:
        return ""
    if not key_file:
        raise DeployError(
            f"{head.name}: the API requires a key, and api_key_file is not set -> "
            "--data api_key_file=FILE"
        )
    return secrets.find_api_key(key_file)


def _replies(head: Host, spec: Spec, key: str) -> dict[str, EndpointReply]:
    fact = Endpoints()
    model = spec.launch.served_model_name
    asked = fact.command(spec.url, model, spec.runtime, keyed=bool(key))
    found = shell.read_fact(head, fact, asked, 600, f"{key}\n" if key else "", failed=True)
    if not found.value:
        raise DeployError(f"{head.name}: no endpoint could be queried: {found.why or 'no answer'}")
    return found.value


def _tell_ranks(
    deployment: Deployment, ranks: dict[str, Rank], specs: dict[str, Spec]
) -> list[str]:
    """A line a rank; what is wrong with them."""
    count = specs[deployment.declaration.head].launch.nnodes
    looks = shell.on_all(
        [h for name, h in deployment.serving.items() if name in specs],
        lambda h: _look(h, ranks[h.name].name, specs[h.name]),
    )
    for name, look in looks.items():
        logger.info(f"    rank {specs[name].rank}  {look}")
    sick = [f"{name}: /health answers {x.health}" for name, x in looks.items() if not x.healthy]
    if len(looks) < count:
        sick.append(f"{len(looks)} of {count} ranks run")
    return sick


def _look(host: Host, name: str, spec: Spec) -> RankHealth:
    fact = RankLook()
    asked = fact.command(host.name, spec.runtime, name, spec.url)
    found = shell.read_fact(host, fact, asked, 60, failed=True)
    return found.value or RankHealth(host.name, lost=found.why or "no answer")


def _tell(replies: dict[str, EndpointReply], model: str) -> list[str]:
    """A line an endpoint; what is wrong with them."""
    for path, reply in replies.items():
        logger.info(f"    {reply.status}  {reply.seconds:5.2f} s  {path}")
    wrong = [f"{p} answers {r.status}" for p, r in replies.items() if r.status != 200]
    if model not in model_ids(replies.get("/v1/models", EndpointReply(0))):
        wrong.append(f"/v1/models does not list {model}")
    said = completion_text(replies.get("/v1/chat/completions", EndpointReply(0)))
    logger.info(f"    asked     {QUESTION}")
    logger.info(f"    answered  {said}")
    return wrong


def _show_use(url: str, model: str, key_file: str) -> None:
    """Command lines that work as they stand. The key is read from its file, never shown."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]})
    path = Path(key_file).expanduser().absolute() if key_file else None
    key = f"open({json.dumps(str(path))}).read().strip()" if path else '"none"'
    client = f'OpenAI(base_url="{url}/v1", api_key={key})'
    logger.info("    use it:")
    if path:
        logger.info(f"      sed 's/^/Authorization: Bearer /' {shlex.quote(str(path))} | \\")
    shown = " -H @-" if path else ""
    json_type = "-H 'Content-Type: application/json'"
    logger.info(f"      curl {shlex.quote(f'{url}/v1/chat/completions')}{shown} {json_type} \\")
    logger.info(f"        -d {shlex.quote(body)}")
    logger.info("      python: from openai import OpenAI")
    logger.info(f"        {client}.chat.completions.create(model={json.dumps(model)},")
    logger.info('          messages=[{"role": "user", "content": "Hello!"}])')

"""Send a request to everything that serves, whatever the settings say, and show how to use it."""

import json
import shlex
from pathlib import Path

from pyinfra import logger
from pyinfra.api import DeployError, Host, State

from cluster.engine.nccl import collectives_of
from cluster.engine.readiness import RankHealth
from cluster.engine.serving import QUESTION, EndpointReply, completion_text, model_ids
from cluster.findings import Level
from cluster.node.readings import Rank
from cluster.plan.decide import exposure_findings
from cluster.rank import api_key
from cluster.rank.spec import Spec
from control import converge, inventory, secrets
from control.allocated import memory_of_ranks
from control.answer_probes import probe_running
from control.deployment import Deployment
from facts.serving import Endpoints, RankLook
from operations import shell


def verify_endpoints(state: State) -> None:
    """Check every rank and every endpoint of what runs; DeployError if one fails."""
    deployment = converge.read_deployment(state)
    ranks = deployment.decision.running_ranks
    head = deployment.hosts[deployment.declaration.head]
    specs = {node: spec for node, rank in ranks.items() if (spec := rank.spec)}
    if head.name not in specs:
        raise DeployError(f"{head.name}: no rank 0 of ours runs -> pyinfra INVENTORY deploy.py")
    spec, key_file = specs[head.name], deployment.settings.api_key_file
    launch, key = spec.launch, ""
    if api_key.is_keyed(spec.volumes):
        if not key_file:
            raise DeployError(
                f"{head.name}: the API requires a key, and api_key_file is not set -> "
                "--data api_key_file=FILE"
            )
        key = secrets.find_api_key(key_file)
    fact = Endpoints()
    command = fact.command(spec.url, launch.served_model_name, spec.runtime, keyed=bool(key))
    reading = shell.read_fact(head, fact, command, 600, f"{key}\n" if key else "", failed=True)
    if not reading.value:
        why = reading.why or "no answer"
        raise DeployError(f"{head.name}: no endpoint could be queried: {why}")
    problems = _check_ranks(deployment, ranks, specs)
    for line in memory_of_ranks(deployment.decision, deployment.serving):
        logger.info(f"    {line}")
    problems += _check_endpoints(reading.value, launch.served_model_name)
    if not problems:
        problems += _check_answers(deployment, spec, key)
    if problems:
        raise DeployError(f"not everything is serving: {'; '.join(problems)}")
    _show_use(inventory.api_url(head, launch), launch.served_model_name, key_file if key else "")
    for finding in exposure_findings(deployment.decision, runs=True, declared=False):
        if finding.level is Level.WARNING:
            logger.warning(f"    warning: {finding}")


def _check_ranks(
    deployment: Deployment, ranks: dict[str, Rank], specs: dict[str, Spec]
) -> list[str]:
    """Log a line for each rank; return what is wrong with them."""

    def read_health(host: Host) -> RankHealth:
        spec, fact = specs[host.name], RankLook()
        command = fact.command(host.name, spec.runtime, ranks[host.name].name, spec.url)
        reading = shell.read_fact(host, fact, command, 60, failed=True)
        return reading.value or RankHealth(host.name, lost=reading.why or "no answer")

    count = specs[deployment.declaration.head].launch.nnodes
    healths = shell.on_all(
        [host for name, host in deployment.serving.items() if name in specs],
        read_health,
    )
    for name, health in healths.items():
        nccl = f", NCCL {', '.join(health.nccl)}" if health.nccl else ""
        logger.info(f"    rank {specs[name].rank}  {health}{nccl}")
    sick = [f"{name}: /health answers {h.health}" for name, h in healths.items() if not h.healthy]
    if len(healths) < count:
        sick.append(f"{len(healths)} of {count} ranks run")
    collectives = collectives_of(specs, deployment.declaration, deployment.model)
    for finding in collectives.findings({name: h.nccl for name, h in healths.items()}):
        if finding.level is Level.ERROR:
            sick.append(str(finding))
        else:
            logger.warning(f"    warning: {finding}")
    return sick


def _check_endpoints(replies: dict[str, EndpointReply], model: str) -> list[str]:
    """Log a line for each endpoint; return what is wrong with them."""
    for path, reply in replies.items():
        logger.info(f"    {reply.status}  {reply.seconds:5.2f} s  {path}")
    problems = [f"{path} answers {r.status}" for path, r in replies.items() if r.status != 200]
    if model not in model_ids(replies.get("/v1/models", EndpointReply(0))):
        problems.append(f"/v1/models does not list {model}")
    answer = completion_text(replies.get("/v1/chat/completions", EndpointReply(0)))
    logger.info(f"    sent      {QUESTION}")
    logger.info(f"    answered  {answer}")
    return problems


def _check_answers(deployment: Deployment, spec: Spec, key: str) -> list[str]:
    """Log what the probes found; return what is wrong with the answers."""
    wrong = []
    for finding in probe_running(deployment.decision, deployment.head, spec, key):
        if finding.level is Level.ERROR:
            wrong.append(str(finding))
        elif finding.level is Level.WARNING:
            logger.warning(f"    warning: {finding}")
        else:
            logger.info(f"    {finding.what}")
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

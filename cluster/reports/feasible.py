"""A deploy judged without its nodes: would it be refused, and how would it spread?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster import checks
from cluster.catalog import models
from cluster.findings import Level, Refused
from cluster.node.readings import MemoryReading, NodeFacts
from cluster.plan.specs import mem_fraction, parallelism, served_name
from cluster.reports.listing import SPARK_BYTES
from cluster.settings.declaration import HostData, parse_declaration
from cluster.settings.resolve import image_findings, resolve

VERSION = 1
# Whether there is a Hugging Face token on this machine, by the setting hf_token_file.
HasToken = Callable[[str], bool]


@dataclass(frozen=True, kw_only=True)
class FeasibleVerdict:
    """What settings come to.

    + errors: why a deploy with them is refused; empty if nothing speaks against it
    + model: the id
    + weight_bytes: of the whole checkpoint; None where the catalog has none
    + lacks_token: its weights, or its draft's, are gated, and there is no Hugging Face token here
      to download them with
    + variant: its name; "": the model has none
    + draft: id of the second repository that is needed; draft_bytes: its size, None: unknown
    + image: the reference; "" where none is needed
    + image_doubts: what a user must know of the image before it is pulled
    + arguments: options of SGLang that the model's entry adds
    """

    errors: tuple[str, ...] = ()
    model: str = ""
    served_model_name: str = ""
    nodes: int = 0
    tp: int = 0
    pp: int = 0
    mem_fraction: float = 0.0
    weight_bytes: int | None = None
    lacks_token: bool = False
    variant: str = ""
    draft: str = ""
    draft_bytes: int | None = None
    image: str = ""
    image_doubts: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FeasibleDocument:
    """Verdicts in the order of the questions."""

    version: int = VERSION
    verdicts: tuple[FeasibleVerdict, ...]


def judge_cases(
    declared: Sequence[HostData], cases: Sequence[Mapping[str, Any]], has_token: HasToken
) -> FeasibleDocument:
    """A verdict on each case: settings that take the place of the declared ones, as --data does.

    The nodes are taken for Sparks that nothing else runs on: a deploy may still refuse.
    """
    return FeasibleDocument(verdicts=tuple(_verdict(declared, case, has_token) for case in cases))


def _verdict(
    declared: Sequence[HostData], case: Mapping[str, Any], has_token: HasToken
) -> FeasibleVerdict:
    try:
        hosts = []
        for host in declared:
            layers = [*host.env_layers, case["env"]] if "env" in case else host.env_layers
            hosts.append(replace(host, data={**host.data, **case}, env_layers=layers))
        wanted = parse_declaration(hosts)
        model = models.find_model(wanted.common.model)
        wanted = resolve(wanted, model)
        settings = wanted.common
        draft = wanted.catalog.draft
        gated = model.gated or (draft is not None and draft.gated)
        lacks_token = gated and not settings.offline and not has_token(settings.hf_token_file)
    except Refused as refused:
        return FeasibleVerdict(errors=tuple(map(str, refused.findings)))
    tp, pp = parallelism(wanted)
    spark = MemoryReading(SPARK_BYTES, SPARK_BYTES)
    # The embedded model runs on this machine: its memory is not a Spark's.
    memory = None if model.runtime == "process" else spark
    nodes = [NodeFacts(name=name, memory=memory) for name in wanted.names]
    findings = checks.check_launch(
        wanted, model, nodes, checks.Needs(runtime=wanted.common.runtime), ""
    )
    return FeasibleVerdict(
        errors=tuple(str(f) for f in findings if f.level is Level.ERROR),
        model=model.id,
        served_model_name=served_name(wanted.common, model),
        nodes=len(wanted.names),
        tp=tp,
        pp=pp,
        mem_fraction=mem_fraction(wanted.common, model),
        weight_bytes=model.weight_bytes,
        lacks_token=lacks_token,
        variant=wanted.catalog.variant,
        draft=draft.id if draft else "",
        draft_bytes=draft.weight_bytes if draft else None,
        image=settings.image if settings.runtime == "docker" else "",
        image_doubts=tuple(f.what for f in image_findings(wanted.catalog.image, model.alias)),
        arguments=wanted.catalog.arguments,
    )

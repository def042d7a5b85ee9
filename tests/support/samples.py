"""Two Sparks, what is declared for them, and what they run: the common ground of these tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from cluster.catalog.entry import Model
from cluster.catalog.models import catalog, find_model
from cluster.engine.versions import UNKNOWN
from cluster.fabric import Fabric, FabricOptions, choose_fabric
from cluster.node.readings import ImageReading, Interface, NodeFacts, Rank, RdmaPort
from cluster.plan.decide import named_version
from cluster.plan.specs import declared_specs
from cluster.rank.spec import Spec
from cluster.settings.declaration import Declaration, HostData, parse_declaration
from cluster.settings.resolve import resolve

IMAGE_ID = "sha256:" + "ab" * 32
OTHER_IMAGE_ID = "sha256:" + "cd" * 32
VERSION = "0.5.3.post3"


def node_name(rank: int) -> str:
    return f"spark-{rank + 1}"


def declare(nodes: int = 2, **data: Any) -> list[HostData]:
    """The first host is the head; all have the same data."""
    groups = [("head",), *[("workers",)] * (nodes - 1)]
    layers = [data["env"]] if "env" in data else []
    return [HostData(node_name(i), groups[i], data, layers) for i in range(nodes)]


def want(nodes: int = 2, **data: Any) -> Declaration:
    """What these declare, with the catalog's values."""
    declaration = parse_declaration(declare(nodes, **data))
    return resolve(declaration, find_model(declaration.common.model))


def half(letter: str, address: str) -> RdmaPort:
    """Half A or B of the cabled port of a Spark."""
    p, domain = ("", "0000") if letter == "A" else ("P2", "0002")
    interface = Interface(f"en{p}p1s0f1np1", 9000, True, "", (address,))
    return RdmaPort(
        f"roce{p}p1s0f1", interface, f"{domain}:01:00.1", 1, letter, "ACTIVE", "LinkUp", 200.0
    )


def spark(rank: int, **more: Any) -> NodeFacts:
    halves = (
        half("A", f"192.168.100.{10 + rank}/24"),
        half("B", f"192.168.101.{10 + rank}/24"),
    )
    lan = Interface("enP7s7", 1500, True, "", (f"10.0.0.{5 + rank}/24",))
    return NodeFacts(
        node_name(rank),
        home="/home/me",
        rdma=halves,
        interfaces=(lan, *(h.interface for h in halves)),
        image=ImageReading("lmsysorg/sglang:spark", IMAGE_ID),
        **more,
    )


def sparks(nodes: int = 2) -> dict[str, NodeFacts]:
    return {node_name(i): spark(i) for i in range(nodes)}


def fabric_of(declaration: Declaration, facts: Mapping[str, NodeFacts]) -> Fabric:
    common = declaration.common
    return choose_fabric(
        [facts[n] for n in declaration.names], FabricOptions(common.rdma, common.twins)
    )


@cache
def fabric_of_sparks(nodes: int, rdma: Any, twins: Any) -> Fabric:
    return choose_fabric(list(sparks(nodes).values()), FabricOptions(rdma, twins))


def specs_of(nodes: int = 2, version: str = VERSION, **data: Any) -> dict[str, Spec]:
    """The specs of so many Sparks with these settings."""
    declaration, facts = want(nodes, **data), sparks(nodes)
    common = declaration.common
    fabric = fabric_of_sparks(len(declaration.names), common.rdma, common.twins)
    model = find_model(common.model)
    return declared_specs(declaration, model, fabric, facts, version)


def ran(spec: Spec, /, **more: Any) -> Rank:
    """A rank that runs as its spec wants it."""
    usual: dict[str, Any] = {
        "id": f"id-of-{spec.name}",
        "status": "running",
        "image_id": IMAGE_ID,
        "label": spec.dump(),
        "restart_policy": spec.restart_policy,
        "started_at": "2025-06-01T10:00:00.123456789Z",
    }
    return Rank(spec.name, **(usual | more))


def running(wanted_specs: Mapping[str, Spec]) -> dict[str, NodeFacts]:
    """Every node runs its rank."""
    readings = sparks(len(wanted_specs))
    return {
        name: replace(readings[name], ranks=(ran(spec),)) for name, spec in wanted_specs.items()
    }


def every_form() -> Iterator[tuple[Model, str, int]]:
    """Each entry, variant and number of nodes that the catalog has."""
    for model in catalog():
        for variant in model.variants or (None,):
            allowed = {f.nodes for f in variant.forms} if variant and variant.forms else {1, 2, 4}
            for nodes in sorted(allowed if model.runtime == "docker" else ()):
                yield model, variant.name if variant else "auto", nodes


def rendered(model: Model, nodes: int, **data: Any) -> tuple[Declaration, str, dict[str, Spec]]:
    """An entry's declaration, the version that its image is taken for, and its specs."""
    declared = want(nodes, model=model.alias, **data)
    version = named_version(declared) or UNKNOWN
    facts = sparks(nodes)
    fabric = fabric_of_sparks(len(declared.names), declared.common.rdma, declared.common.twins)
    return declared, version, declared_specs(declared, model, fabric, facts, version)

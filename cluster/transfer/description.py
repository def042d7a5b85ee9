"""What a repository states of its model, from the hub's list and its config.json."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cluster.catalog.config_json import NoConfig, describe_model, parse_config
from cluster.catalog.entry import Model
from cluster.findings import Finding, error, warning
from cluster.transfer import gate
from cluster.transfer.repository import INDEX, find_load_problem, required_weights


def describe_from_hub(
    model: Model, reply: Mapping[str, Any], node: str
) -> tuple[Model, tuple[Finding, ...]]:
    """The model with sizes and shapes; findings where its files can't be loaded or understood.

    + reply: what hub_client.py read (`list_with_config`); nothing in it is believed unchecked
    + node: whose container queried the hub
    """
    try:
        sizes = {path: size for path, size, _, _ in gate.check_listing(reply.get("files"))}
    except gate.Unfit as wrong:
        return model, (_unchecked(model, node, f"the hub's list can't be a model's: {wrong}"),)
    if problem := find_load_problem(sizes):
        what, cure = problem
        return model, (
            error(f"repository {model.id} {what}", node, cure, key="model-not-described"),
        )
    listed = reply.get("shards")
    named = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else ()
    weights = required_weights({INDEX: named} if named else {}, sizes)
    weight_bytes = sum(sizes.get(name, 0) for name in weights)
    return describe_from_config(model, reply.get("config"), weight_bytes, node)


def describe_from_config(
    model: Model, content: object, weight_bytes: int, node: str
) -> tuple[Model, tuple[Finding, ...]]:
    """The model with what its config.json states, and its size.

    + content: the file's text; "" where it was not read
    + weight_bytes: of all files that an engine loads; 0: unknown
    """
    sized = replace(model, weight_bytes=weight_bytes or None)
    if not isinstance(content, str) or not content:
        return sized, (_unchecked(model, node, "its config.json could not be read"),)
    try:
        return describe_model(model, parse_config(content), weight_bytes), ()
    except NoConfig as wrong:
        return sized, (_unchecked(model, node, str(wrong)),)


def _unchecked(model: Model, node: str, why: str) -> Finding:
    return warning(
        f"what {model.id} takes can't be computed: {why}",
        node,
        "an entry of your own can state it: catalog/ALIAS.toml beside the inventory",
        key="fit-unchecked",
    )

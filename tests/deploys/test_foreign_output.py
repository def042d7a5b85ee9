"""Every fact, and what is decided from it, given output that is cut, repeated, mixed or foreign."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from fakes import MARK, Fakes, Spark
from hypothesis import given, settings, strategies as st
from pyinfra.api.exceptions import FactProcessError

from cluster import checks
from cluster.engine import serving
from cluster.fabric import FabricOptions, choose_fabric
from cluster.findings import Refused
from cluster.node.readings import NodeFacts
from cluster.plan.plan import make_plan
from cluster.plan.previous_group import find_previous_group
from cluster.reports import probe, status
from facts.answers import Answers, Metrics
from facts.fact import Fact
from facts.network import Peers
from facts.node import NodeReading
from facts.serving import Endpoints, RankLog, RankLook, Served
from facts.weights import CachedModels

CASES = Path(__file__).parents[1] / "facts"
ODD = [None, True, -1, 10**30, 1e308, "", "x" * 300, [], {}, [[]], {"a": None}, "\x1b[2J", "٣"]
SPARK = Spark(0)
DOG = (
    'watchdog 3 {"at": 9.5, "duty": "serving", "why": "", "events": '
    '[{"at": 1.0, "what": "end", "key": "memory-floor", "why": "w", "failed": ""}]}'
)
MORE: list[tuple[Fact[Any], list[str]]] = [
    (Answers(), ["health 200 0.05", 'models {"data": [{"id": "m"}]} 200 0.01', "age 7", "log hi"]),
    (Answers(), ["health 200 0.05", DOG]),
    (CachedModels(), ["=== cached a/b", "model\ta/b", "path\t/x", "config", "5 a.safetensors"]),
    (Endpoints(), ["=== /health", "", "--- 200 0.01", "=== /v1/models", "{}", "--- 200 0.2"]),
    (Metrics(), ['sglang:gen_throughput{model_name="m"} 75.5', "sglang:token_usage 0.1"]),
    (Peers(), [json.dumps(SPARK.peers(Fakes(Path(), [SPARK, Spark(1)])))]),
    (RankLog(), ["log one", "nccl two"]),
    (RankLook(), SPARK.look()),
    (Served(), Fakes(Path(), [SPARK, Spark(1)]).served()),
    (NodeReading(), SPARK.reading(full=True)),
]


def recorded() -> Iterator[tuple[Fact[Any], list[str]]]:
    """Every fact with the output that its recorded cases have."""
    for folder in sorted(p for p in CASES.iterdir() if p.is_dir()):
        module, name = folder.name.split(".")
        fact = getattr(importlib.import_module(f"facts.{module}"), name)()
        for case in sorted(folder.glob("*.yaml")):
            yield fact, str(yaml.safe_load(case.read_text()).get("output") or "").splitlines()


SAMPLES = [
    pytest.param(fact, lines, id=f"{type(fact).__name__}-{number}")
    for number, (fact, lines) in enumerate((*recorded(), *MORE))
]


def read(fact: Fact[Any], lines: list[str]) -> Any:
    """The fact's value, or None: nothing else may come of any output."""
    try:
        return fact.process(lines)
    except FactProcessError as e:
        assert str(e)
        return None


def cuts(lines: list[str]) -> Iterator[list[str]]:
    """The output up to each of its bytes; of a long one, up to some of them."""
    text = "\n".join(lines)
    for at in range(0, len(text) + 1, max(1, len(text) // 400)):
        yield text[:at].splitlines()


def mixed(lines: list[str]) -> Iterator[list[str]]:
    yield lines * 2
    yield lines[::-1]
    yield [line for line in lines for _ in range(2)]
    yield [f"{line}\r" for line in lines]
    yield [line.replace(" ", "\t") for line in lines]
    yield [line.replace("1", "9" * 5000) for line in lines]
    yield ["\0\ufffd", *lines, "\x1b[31m", "[" * 100_000]
    for at in range(len(lines) + 1):
        yield [*lines[:at], "perl: warning: Setting locale failed.", *lines[at:]]
        yield [*lines[:at], *lines[at + 1 :]]


def retyped(value: Any) -> Iterator[Any]:
    """A JSON document with each of its values in turn replaced by an odd one."""
    yield from ODD
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        for other in retyped(part):
            copy = value.copy()
            copy[key] = other
            yield copy
        if isinstance(value, dict):
            yield {k: v for k, v in value.items() if k != key}


def documents(lines: list[str]) -> Iterator[list[str]]:
    """The lines with the JSON in them retyped."""
    for at, line in enumerate(lines):
        begin = min((n for n in (line.find("{"), line.find("[")) if n >= 0), default=-1)
        try:
            value, end = json.JSONDecoder().raw_decode(line[max(0, begin) :])
        except ValueError:
            continue
        rest = line[max(0, begin) + end :]
        for other in retyped(value):
            text = f"{line[: max(0, begin)]}{json.dumps(other)}{rest}"
            yield [*lines[:at], text, *lines[at + 1 :]]


@pytest.mark.parametrize(("fact", "lines"), SAMPLES)
def test_a_fact_parses_its_output_or_reports_an_error(fact: Fact[Any], lines: list[str]) -> None:
    for output in (*cuts(lines), *mixed(lines), *documents(lines)):
        read(fact, output)


@pytest.mark.parametrize(
    "fact",
    {type(f): f for f, _ in (*recorded(), *MORE)}.values(),
    ids=lambda fact: type(fact).__name__,
)
@settings(max_examples=60)
@given(lines=st.lists(st.text(max_size=60), max_size=6))
def test_a_fact_reads_any_output_or_reports_an_error(fact: Fact[Any], lines: list[str]) -> None:
    read(fact, lines)


@pytest.mark.parametrize(("fact", "lines"), [(f, x) for f, x in MORE if not isinstance(f, Metrics)])
def test_a_stray_line_does_not_break_a_fact(fact: Fact[Any], lines: list[str]) -> None:
    """Where its own lines are identifiable."""
    assert read(fact, lines) is not None


def read_facts(lines: list[str]) -> NodeFacts | None:
    facts: NodeFacts | None = read(NodeReading(), lines)
    return facts


def decided(node_facts: NodeFacts) -> None:
    """Everything that is decided from a reading; a refusal is a right answer."""
    other = read_facts(Spark(1).reading(full=True))
    assert other
    nodes = [node_facts, other]
    try:
        fabric = choose_fabric(nodes, FabricOptions())
    except Refused:
        fabric = None
    needs = checks.Needs(
        runtime="docker", gpus=True, image="i", hf_cache={n.name: "/raid/hf-cache" for n in nodes},
        port=30000, dist_port=50000, our_names=frozenset(),
    )  # fmt: skip
    for finding in checks.check_nodes(nodes, wanted=needs, fabric=fabric, peers={}):
        assert str(finding)
    facts = {n.name: n for n in nodes}
    make_plan({}, facts, "absent")
    find_previous_group(facts, "sglang")
    for rank in (*node_facts.ranks, None):
        assert status.rank_status(0, node_facts.name, node_facts, rank).node == node_facts.name
    probe.probed_node(node_facts, "/raid/hf-cache", "3.12")


def test_a_decision_survives_any_damaged_reading() -> None:
    lines = SPARK.reading(full=True)
    chance = random.Random(7)
    for output in (*cuts(lines), *mixed(lines), *chance.sample(list(documents(lines)), 300)):
        if (facts := read_facts(output)) and facts.name == SPARK.name:
            decided(facts)


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("where", ["nnodes", "rank", "host", "port", "model_path", "tp"])
def test_a_decision_survives_any_odd_label(tmp_path: Path, where: str, odd: Any) -> None:
    sparks = Fakes.of(tmp_path)
    sparks.run_ranks()
    spark = sparks.sparks[0]
    assert spark.container
    labels = spark.container["Config"]["Labels"]
    label = json.loads(labels["spark-serving.spec"])
    label["launch"][where] = odd
    labels["spark-serving.spec"] = json.dumps(label)
    facts = read_facts(spark.reading(full=True))
    assert facts and facts.ranks
    decided(facts)


@pytest.mark.parametrize(
    "body",
    ["[" * 100_000, '{"data": 5}', '{"data": ["a", "b"]}', '{"data": [{"id": {}}]}', "null", '"x"',
     '{"choices": 1}', '{"usage": {"completion_tokens": "x"}}', '{"choices": [{"message": []}]}'],
)  # fmt: skip
def test_a_server_may_answer_anything(body: str) -> None:
    reply = serving.EndpointReply(200, body)
    served = serving.GroupAnswers((reply,), reply, reply)
    assert serving.serving_problems(served, ("spark-1", "spark-2"), "m")
    assert not serving.busy(served, "m")
    serving.completion_text(reply)


def test_an_idle_group_is_not_busy() -> None:
    nothing = serving.GroupAnswers((), serving.EndpointReply(200), serving.EndpointReply(0))
    assert not serving.busy(nothing, "m")
    assert [f.where for f in serving.serving_problems(nothing, ("a", "b"), "m")] == ["a", "b"]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["Welcome"], id="foreign"),
        pytest.param([f"{MARK} begin identity"], id="no-header"),
        pytest.param([], id="nothing"),
    ],
)
def test_a_reading_without_its_header_is_none(lines: list[str]) -> None:
    with pytest.raises(FactProcessError):
        NodeReading().process(lines)

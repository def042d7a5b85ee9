"""A switch over hosts that are not there: one command fails, is lost, or is the last one of a node
or of the controller. What is left then, and what the next run makes of it."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import fake_host
import pytest
from fake_host import framed
from hypothesis import given, settings as profile, strategies as st
from samples import ran, running, specs_of
from world import World

from cluster.command import Command
from cluster.engine.readiness import RankHealth, ReadyLimits
from cluster.engine.serving import EndpointReply, GroupAnswers
from cluster.findings import Finding, Refused, error, ok
from cluster.node.readings import Rank
from cluster.plan.plan import make_plan
from cluster.plan.previous_group import undo_interrupted_switch
from cluster.rank import docker
from cluster.rank.spec import Spec
from operations import group as groups, shell, switch
from operations.group import Group
from operations.shell import Output
from operations.switch import Switch

Specs = dict[str, Spec]
PROVE, READ = groups.verify_model, switch.read_ranks
FAULTS = ("refused", "late", "gone")


def old(nodes: int = 2) -> Specs:
    return specs_of(nodes=nodes, model="qwen7b", pipeline_parallel=nodes, tensor_parallel=1)


def new(nodes: int = 2) -> Specs:
    return specs_of(nodes=nodes, model="qwen14b", pipeline_parallel=nodes, tensor_parallel=1)


def third() -> Specs:
    return specs_of(model="smollm2", pipeline_parallel=2, tensor_parallel=1)


class Dead(BaseException):
    """kill -9 of the controller."""


@dataclass
class FakeHost:
    """A host that keeps what is logged under its name."""

    name: str
    logged: list[str]
    state: None = None

    def log(self, text: str) -> None:
        self.logged.append(text)

    def log_styled(self, text: str, **_: Any) -> None:
        self.logged.append(text)


@dataclass
class Cluster:
    """The world behind the hosts.

    + bad: labels of ranks that end as soon as they start
    + nonsense: labels of ranks that answer the probes wrong
    + fault: which command (counted from 0) does not come through, and how
    """

    world: World
    bad: frozenset[str] = frozenset()
    nonsense: frozenset[str] = frozenset()
    fault: tuple[int, str] = (-1, "")
    count: int = 0
    taken: bool = False
    gone: set[str] = field(default_factory=set)
    logged: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> dict[str, FakeHost]:
        return {name: FakeHost(name, self.logged) for name in self.world.facts}

    def run_command(self, at: FakeHost, command: Command) -> Output:
        program, verb, *rest = command.argv
        number, self.count = self.count, self.count + 1
        how = self.fault[1] if number == self.fault[0] else ""
        if how == "killed":
            raise Dead
        if how == "gone":
            self.gone.add(at.name)
        if at.name in self.gone:
            return Output(ok=False, lost="no route to host")
        if how == "refused":
            return Output(ok=False, err=("no space left on device",))
        answer = self.do(at.name, verb, *rest) if program == "docker" else Output(ok=True)
        return Output(ok=False, lost="connection reset") if how == "late" else answer

    def do(self, node: str, verb: str, *words: str) -> Output:
        names = {r.id: r.name for r in self.world.facts[node].ranks}
        try:
            self.world.docker(node, verb, *(names.get(word, word) for word in words))
        except KeyError:
            return Output(ok=False, err=("No such container",))
        except AssertionError as e:
            if "is in use" not in str(e):
                self.wrong.append(f"{node} {verb} {words[-1]}: {e}")
            return Output(ok=False, err=(str(e),))
        if verb == "start":
            self._end_bad(node)
        return Output(ok=True)

    def _end_bad(self, node: str) -> None:
        facts = self.world.facts[node]
        ranks = [
            replace(r, status="exited", exit_code=1) if r.running and r.label in self.bad else r
            for r in facts.ranks
        ]
        self.world.facts[node] = replace(facts, ranks=tuple(ranks))

    def read(self, hosts: Mapping[str, FakeHost], group: Group) -> switch.RanksById:
        there = [n for n in hosts if n not in self.gone]
        return {n: {r.id: r for r in self.world.facts[n].ranks if r.label} for n in there}

    def look(self, group: Group) -> list[RankHealth]:
        return [self._look(group, n) for n in group.nodes]

    def _look(self, group: Group, node: str) -> RankHealth:
        if node in self.gone:
            return RankHealth(node, lost="no route to host")
        named = [r for r in self.world.facts[node].ranks if r.name == group.specs[node].name]
        rank = named[0] if named else None
        return RankHealth(node, rank, 200 if rank and rank.running else 0)

    def prove(self, group: Group, *, locked: bool = False) -> tuple[Finding, ...]:
        down = [x.node for x in self.look(group) if not x.healthy]
        return tuple(error("does not answer", n, key="unhealthy") for n in down)

    # ---- a run

    def run(self, specs: Specs) -> bool | None:
        """A deploy, from its reading on; None where it had nothing to do."""
        facts = undo_interrupted_switch(self.world.facts, specs, "sglang")
        plan = make_plan(specs, facts, "running")
        if not plan.changes:
            return None
        serves = not plan.restart
        previous = plan.previous
        return switch.carry_out(
            Switch(
                hosts=self.hosts,  # type: ignore[arg-type]
                runtime=docker,
                plan=plan,
                stop_seconds=30,
                group=None if serves else replace(self.group(specs), probe=self.probe(specs)),
                previous=self.group(dict(previous.specs)) if previous else None,
                lost=lambda: None,
                taken=lambda: self.taken,
            )
        )

    def group(self, specs: Specs) -> Group:
        return Group(
            hosts={n: self.hosts[n] for n in specs},  # type: ignore[misc]
            specs=specs,
            runtime=docker,
            model=next(iter(specs.values())).model,
            url="http://127.0.0.1:30000",
            limits=ReadyLimits(1.0, lost=0.0),
            stop_seconds=30,
            start=True,
            restarts={},
            fetch_answers=lambda: GroupAnswers((), EndpointReply(0), EndpointReply(0)),
            rdma=False,
        )

    def probe(self, specs: Specs) -> Callable[[], tuple[Finding, ...]]:
        wrong = any(spec.dump() in self.nonsense for spec in specs.values())
        return lambda: (
            (error("41 apples", key="probe-sums"),)
            if wrong
            else (ok("probes: 8 right", key="probes"),)
        )

    # ---- what is true

    def serves(self, specs: Specs) -> bool:
        """This group alone runs, under its own names, and survives a reboot."""
        for node, facts in self.world.facts.items():
            living = [r for r in facts.ranks if r.alive]
            want = specs.get(node)
            if [(r.name, r.label) for r in living] != ([(want.name, want.dump())] if want else []):
                return False
            if any(r.restart_policy != "unless-stopped" for r in living):
                return False
        return True

    def resurrects(self) -> list[str]:
        """Stopped ranks that the next boot would start."""
        return [
            r.name
            for facts in self.world.facts.values()
            for r in facts.ranks
            if not r.alive and r.restart_policy != "no"
        ]


@pytest.fixture
def make_cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cluster]:
    def on_all(hosts: Iterable[FakeHost], do: Callable[[FakeHost], Any]) -> dict[str, Any]:
        return {host.name: do(host) for host in hosts}

    def make(world: World, *bad: Specs, **more: Any) -> Cluster:
        labels = frozenset(spec.dump() for specs in bad for spec in specs.values())
        cluster = Cluster(world, labels, **more)
        monkeypatch.setattr(shell, "on_all", on_all)
        monkeypatch.setattr(shell, "run_command", cluster.run_command)
        monkeypatch.setattr(switch, "read_ranks", cluster.read)
        monkeypatch.setattr(switch, "PAUSE_SECONDS", 0)
        monkeypatch.setattr(groups, "read_healths", cluster.look)
        monkeypatch.setattr(groups, "verify_model", cluster.prove)
        monkeypatch.setattr(groups, "log_causes", lambda *_: None)
        monkeypatch.setattr("time.sleep", lambda _: None)
        return cluster

    return make


def commands(bad: bool) -> int:
    """How many commands a switch takes that succeeds, or fails at its last."""
    with pytest.MonkeyPatch.context() as patch:
        cluster = make_cluster.__wrapped__(patch)(World(running(old())), *([new()] if bad else []))  # type: ignore[attr-defined]
        cluster.run(new())
        return int(cluster.count)


CUTS = [
    pytest.param(bad, number, how, id=f"{'failing' if bad else 'good'}-{number}-{how}")
    for bad in (False, True)
    for number in range(commands(bad))
    for how in (*FAULTS, "killed")
]


@pytest.mark.parametrize(("bad", "number", "how"), CUTS)
@pytest.mark.parametrize("then", ["old", "new"])
def test_one_fault(
    make_cluster: Callable[..., Cluster], bad: bool, number: int, how: str, then: str
) -> None:
    """Old or new serves after the run; where a fault hit the way back, after the next one."""
    cluster = make_cluster(World(running(old())), *([new()] if bad else []), fault=(number, how))
    try:
        good = cluster.run(new())
    except Dead:
        good = None
    assert not cluster.wrong
    warned = any("policy could not be set" in x or "could not rename" in x for x in cluster.logged)
    if good:
        assert cluster.serves(new()) or warned
    elif good is False and how in ("refused", "late"):
        assert cluster.serves(old()) or warned, cluster.logged
    assert not (cluster.resurrects() and good is not None and not cluster.gone), cluster.world.facts
    cluster.gone.clear()
    cluster.bad = frozenset()
    wanted = {"old": old, "new": new}[then]()
    assert cluster.run(wanted) is not False, cluster.logged
    assert cluster.serves(wanted), cluster.world.facts
    assert not cluster.wrong
    assert cluster.run(wanted) is None


def also(world: World, node: str, *ranks: Rank) -> None:
    world.facts[node] = replace(world.facts[node], ranks=(*world.facts[node].ranks, *ranks))


def test_a_foreign_container_with_a_failed_ranks_name_stays(
    make_cluster: Callable[..., Cluster],
) -> None:
    theirs = Rank("sglang-head.failed", "theirs", "exited", restart_policy="no")
    cluster = make_cluster(World(running(old())), new())
    also(cluster.world, "spark-1", theirs)
    assert cluster.run(new()) is False
    assert theirs in cluster.world.facts["spark-1"].ranks
    assert not cluster.resurrects()
    cluster.bad = frozenset()
    assert cluster.run(old()) is True
    living = [r for facts in cluster.world.facts.values() for r in facts.ranks if r.alive]
    assert {r.name: r.label for r in living} == {s.name: s.dump() for s in old().values()}
    assert {r.restart_policy for r in living} == {"unless-stopped"}


def test_a_serving_group_is_kept_and_nothing_else_is_started(
    make_cluster: Callable[..., Cluster],
) -> None:
    """What is left of an interrupted switch can't be cleared away: both would need the memory."""
    cluster = make_cluster(World(running(new())), fault=(0, "refused"))
    for node, spec in old().items():
        rank = ran(spec, id=f"kept-{node}", status="exited", restart_policy="no")
        wreck = replace(rank, id=f"wreck-{node}", name=f"{spec.name}.failed")
        also(cluster.world, node, replace(rank, name=f"{spec.name}.previous"), wreck)
    assert cluster.run(new()) is False
    assert not cluster.wrong
    assert cluster.serves(new())
    assert cluster.run(new()) is True
    assert cluster.serves(new())
    assert cluster.run(new()) is None


def test_a_run_that_was_overtaken_while_it_waited_changes_nothing_more(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(World(running(old())))
    cluster.taken = True
    assert cluster.run(new()) is False
    assert "this run changes nothing more" in cluster.logged
    assert {r.restart_policy for s in cluster.world.facts.values() for r in s.ranks} == {"no"}


def test_a_group_that_answers_wrong_gives_way_to_the_one_before_which_is_not_probed(
    make_cluster: Callable[..., Cluster],
) -> None:
    labels = frozenset(spec.dump() for s in (old(), new()) for spec in s.values())
    cluster = make_cluster(World(running(old())), nonsense=labels)
    assert cluster.run(new()) is False
    assert cluster.serves(old())
    assert "41 apples" in cluster.logged
    cluster.nonsense = frozenset()
    assert cluster.run(new()) is True
    assert cluster.serves(new())
    assert "probes: 8 right" in cluster.logged


def test_an_unexplained_failure_is_rolled_back_too(
    make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("a log of another kind")

    cluster = make_cluster(World(running(old())), new())
    monkeypatch.setattr(groups, "log_causes", broken)
    assert cluster.run(new()) is False
    assert cluster.serves(old())


@pytest.mark.parametrize(
    ("refusal", "goes_on"),
    [pytest.param(None, True, id="all is well"), pytest.param("no room", False, id="refused")],
)
def test_a_refusal_after_a_transfer_ends_the_run_before_any_rank_is_touched(
    refusal: str | None, goes_on: bool
) -> None:
    def again() -> None:
        if refusal:
            raise Refused(error(refusal, "spark-1", key="refused"))

    host = fake_host.FakeHost("spark-1")
    (command,) = switch.plan_checked._inner(again, needed=True)
    assert command.function(host.state, host) is goes_on
    assert any(refusal in line for line in host.logged) if refusal else host.logged == []
    assert list(switch.plan_checked._inner(again, needed=False)) == []


@pytest.mark.parametrize(
    ("bad", "fault", "explained"),
    [
        pytest.param(new(), (-1, ""), 1, id="its ranks ended"),
        pytest.param({}, (0, "refused"), 0, id="none was started"),
    ],
)
def test_a_failure_is_explained_from_logs_only_if_ranks_were_started(
    make_cluster: Callable[..., Cluster],
    monkeypatch: pytest.MonkeyPatch,
    bad: Specs,
    fault: tuple[int, str],
    explained: int,
) -> None:
    cluster = make_cluster(World(running(old())), bad, fault=fault)
    groups_explained = list[Group]()
    monkeypatch.setattr(groups, "log_causes", lambda group, _: groups_explained.append(group))
    assert cluster.run(new()) is False
    assert len(groups_explained) == explained


def test_a_group_that_requires_another_key_serves_too(
    make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(World(running(old())))
    locked = GroupAnswers(
        (EndpointReply(200), EndpointReply(200)), EndpointReply(401), EndpointReply(0)
    )
    group = replace(cluster.group(old()), fetch_answers=lambda: locked)
    assert not PROVE(group, locked=True)
    assert "changed" in str(PROVE(group)[0])


def test_a_node_that_refuses_for_a_moment_is_queried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sshd restarts: a group must not stay down for that."""
    refusals = [OSError("refused"), OSError("refused")]

    def reply(script: str, stdin: str) -> list[str]:
        if refusals:
            raise refusals.pop()
        return framed()

    monkeypatch.setattr(switch, "PAUSE_SECONDS", 0.01)
    hosts: Any = {"spark-1": fake_host.FakeHost("spark-1", reply)}
    group = Cluster(World(running(old()))).group(old())
    assert READ(hosts, group) == {"spark-1": {}}
    assert not refusals


def test_a_node_that_keeps_refusing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(script: str, stdin: str) -> list[str]:
        raise OSError("refused")

    monkeypatch.setattr(switch, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(switch, "PATIENCE_SECONDS", 0.05)
    hosts: Any = {"spark-1": fake_host.FakeHost("spark-1", reply)}
    assert READ(hosts, Cluster(World(running(old()))).group(old())) == {}


def test_only_the_last_failed_group_is_kept_stopped(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(World(running(old())), new(), third())
    for wanted in (new(), third()):
        assert cluster.run(wanted) is False
        assert cluster.serves(old())
        for node, spec in wanted.items():
            failed = [r for r in cluster.world.facts[node].ranks if r.name == f"{spec.name}.failed"]
            assert [(r.label, r.alive, r.restart_policy) for r in failed] == [
                (spec.dump(), False, "no")
            ]


@pytest.mark.parametrize("left", [("spark-2",), ("spark-1", "spark-2")], ids=["half", "whole"])
@pytest.mark.parametrize("wanted", [old(), third()], ids=["the one before", "a third"])
def test_the_proven_group_is_restored(
    make_cluster: Callable[..., Cluster], left: tuple[str, ...], wanted: Specs
) -> None:
    """The switch ended except for what it had kept, which is gone or no longer served."""
    world = World(running(new()))
    for node in left:
        spec = old()[node]
        rank = ran(spec, id=f"kept-{node}", status="exited", restart_policy="no")
        also(world, node, replace(rank, name=f"{spec.name}.previous"))
    cluster = make_cluster(world, wanted)
    assert cluster.run(wanted) is False, cluster.logged
    assert not cluster.wrong
    assert cluster.serves(new()), cluster.logged
    cluster.bad = frozenset()
    assert cluster.run(wanted) is True
    assert cluster.serves(wanted)
    assert cluster.run(wanted) is None


@profile(max_examples=100)
@given(st.data())
def test_faults_in_a_row_end_in_one_group(data: st.DataObject) -> None:
    """Any group wanted, some of them never ready, each run with a fault somewhere; then one whose
    commands all come through."""
    kinds = [old(), new(), third()]
    with pytest.MonkeyPatch.context() as patch:
        cluster = make_cluster.__wrapped__(patch)(World(running(old())))  # type: ignore[attr-defined]
        for _ in range(data.draw(st.integers(1, 5))):
            wanted = data.draw(st.sampled_from(kinds))
            bad = data.draw(st.sampled_from([{}, wanted]))
            cluster.bad = frozenset(spec.dump() for spec in bad.values())
            how = data.draw(st.sampled_from([*FAULTS, "killed", ""]))
            cluster.count, cluster.fault = 0, (data.draw(st.integers(0, 40)), how)
            clean = [specs for specs in kinds if cluster.serves(specs)]
            with contextlib.suppress(Dead):
                if cluster.run(wanted) is False and not how:
                    assert not clean or cluster.serves(clean[0]), cluster.logged
            assert not cluster.wrong, cluster.logged
            cluster.gone.clear()
        cluster.bad, cluster.fault = frozenset(), (-1, "")
        last = data.draw(st.sampled_from(kinds))
        assert cluster.run(last) is not False, cluster.logged
        assert cluster.serves(last), cluster.world.facts
        assert cluster.run(last) is None


def test_ctrl_c_while_it_waits_puts_back_what_served(
    make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(World(running(old())))
    usual = signal.getsignal(signal.SIGINT)

    def loading(group: Group) -> list[RankHealth]:
        if group.specs == new():
            if signal.getsignal(signal.SIGINT) is not usual:
                signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is usual, "the second one ends the run"
            return [replace(look, health=503) for look in cluster.look(group)]
        return cluster.look(group)

    monkeypatch.setattr(groups, "read_healths", loading)
    assert cluster.run(new()) is False
    assert "interrupted by SIGINT" in "\n".join(cluster.logged)
    assert cluster.serves(old())
    assert signal.getsignal(signal.SIGINT) is usual


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_between_two_phases_puts_back_what_served(
    make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    cluster = make_cluster(World(running(old())))

    def run_command(at: FakeHost, command: Command) -> Output:
        if cluster.count == 4:
            signal.raise_signal(number)
        return cluster.run_command(at, command)

    monkeypatch.setattr(shell, "run_command", run_command)
    assert cluster.run(new()) is False
    assert cluster.serves(old())
    assert cluster.count < 20


def test_ctrl_c_while_a_group_loads_that_this_run_did_not_start(
    make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(World(running(old())))

    def loading(group: Group) -> list[RankHealth]:
        signal.raise_signal(signal.SIGTERM)
        return [replace(look, health=503) for look in cluster.look(group)]

    monkeypatch.setattr(groups, "read_healths", loading)
    hosts: Any = cluster.hosts
    only_waits = Switch(
        hosts=hosts,
        runtime=docker,
        plan=make_plan(old(), cluster.world.facts, "running"),
        stop_seconds=30,
        group=replace(cluster.group(old()), start=False),
        previous=None,
        lost=lambda: None,
        taken=lambda: False,
    )
    assert switch.carry_out(only_waits) is False
    assert cluster.serves(old())
    assert "what runs was left as it is" in "\n".join(cluster.logged)


def test_a_group_of_many_nodes_is_put_back(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(World(running(old(12))), new(12))
    assert cluster.run(new(12)) is False
    assert cluster.serves(old(12))


def test_a_group_of_an_older_version_of_ours_is_put_back(
    make_cluster: Callable[..., Cluster],
) -> None:
    """Its label lacks what came later, and has what has gone since."""
    cluster = make_cluster(World(running(old())), new())
    for node, facts in cluster.world.facts.items():
        document = json.loads(facts.ranks[0].label or "")
        del document["launch"]["revision"], document["sglang"], document["shm_size"]
        document["token_folder"] = "/run/spark-serving"
        aged = replace(facts.ranks[0], label=json.dumps(document))
        cluster.world.facts[node] = replace(facts, ranks=(aged,))
    before = {node: node_facts.ranks[0].id for node, node_facts in cluster.world.facts.items()}
    assert cluster.run(new()) is False
    living = {n: [r.id for r in s.ranks if r.running] for n, s in cluster.world.facts.items()}
    assert living == {node: [id] for node, id in before.items()}

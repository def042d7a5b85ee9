"""Desired against actual, for the whole group at once: what must happen to each rank, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cluster.findings import Finding, error, refuse_errors
from cluster.node.readings import NodeFacts, Rank
from cluster.plan.previous_group import FAILED, PREVIOUS, Before, before, members
from cluster.rank.spec import Spec, changes


@dataclass(frozen=True)
class Step:
    """What becomes of one rank on one node.

    + seen: the rank as it is, None where there is none
    + spec: the rank as wanted, None where it must not run
    + reasons: why it changes, one difference each; empty where it stays
    + recreate: the container must be made anew (else what is there is used again)
    + cdi: its GPUs come as CDI devices: the node's Docker has no other way
    + remove: the container must go
    """

    node: str
    name: str
    seen: Rank | None
    spec: Spec | None
    reasons: tuple[str, ...] = ()
    recreate: bool = False
    remove: bool = False
    cdi: bool = False

    @property
    def stop(self) -> bool:
        return self.seen is not None and self.seen.alive

    @property
    def is_head(self) -> bool:
        """Rank 0 of its group: it must be stopped first, SGLang's workers ignore SIGTERM.

        What runs decides, not what it shall become.
        """
        number = self.seen.number if self.seen else None
        if number is None and self.spec is not None:
            return self.spec.rank == 0
        return number == 0


@dataclass(frozen=True)
class Plan:
    """Everything that a deploy will do to the ranks.

    + steps: wanted ranks in rank order, then the strays: ours, but no longer wanted
    + restart: the group's ranks are stopped and started together
    + policies: node → restart policy to set on a rank that stays as it is
    + before: the group to put back where the wanted one does not get ready; None: there is none
    """

    steps: tuple[Step, ...]
    restart: bool
    policies: Mapping[str, str]
    before: Before | None = None

    @property
    def changes(self) -> bool:
        told = (self.restart, self.policies, self.renames)
        return any(told) or any(s.reasons for s in self.steps)

    @property
    def renames(self) -> Mapping[str, Rank]:
        """Node → the rank that an interrupted switch has set aside, and that stays."""
        stays = (s for s in self.steps if s.spec and s.seen and not s.recreate)
        return {s.node: s.seen for s in stays if s.seen and s.seen.container}

    def of(self, node: str) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.node == node)

    def lines(self) -> Iterator[str]:
        """The plan for a reader, a line for each reason."""
        for step in self.steps:
            for reason in step.reasons:
                yield f"{step.node} {step.name}: {reason}"
            if not step.reasons and step.spec and self.restart:
                yield f"{step.node} {step.name}: restarts with its group"
        for node, rank in self.renames.items():
            yield f"{node} {rank.called}: gets its name back, {rank.name}"
        for node, policy in self.policies.items():
            yield f"{node}: restart policy -> {policy}"


def plan(
    specs: Mapping[str, Spec],
    facts: Mapping[str, NodeFacts],
    state: str,
    restart: str = "",
    group: str = "sglang",
    rollback: bool = True,
) -> Plan:
    """What to do so that every node runs its spec, and nothing else of ours.

    + specs: node → its wanted rank; nodes that are only in facts shall run none
    + state: "running", "stopped" (containers stay) or "absent" (they go)
    + restart: a reason to restart a group whose specs are right (it hangs), or ""
    + group: whose ranks these are; those of other groups are never touched
    + rollback: keep a group that serves until the wanted one is ready
    """
    if state != "running":
        return Plan(tuple(_endings(facts, state, group)), restart=False, policies={})
    refuse_errors(_foreign(specs, facts))
    wanted = [_step(node, spec, facts[node]) for node, spec in specs.items()]
    strays = [
        stray for node, seen in facts.items() for stray in _strays(specs.get(node), seen, group)
    ]
    if restart:
        wanted = [_because(step, restart) for step in wanted]
    changed = any(step.reasons for step in wanted) or any(stray.stop for stray in strays)
    kept = _kept(facts, group, (*wanted, *strays)) if rollback else None
    return Plan(
        # A rank that is kept for its group can't serve in the next one.
        steps=(
            *(
                replace(s, recreate=True) if kept and kept.holds(s.node, s.seen) else s
                for s in wanted
            ),
            *strays,
        ),
        restart=changed,
        policies={} if changed else dict(_policies(wanted)),
        before=kept,
    )


def _kept(facts: Mapping[str, NodeFacts], group: str, steps: tuple[Step, ...]) -> Before | None:
    """The group to keep: one that serves, where not all of its ranks are simply started again."""
    found = before(facts, group)
    if found is None:
        return None
    ending = [s for s in steps if found.holds(s.node, s.seen) and (s.recreate or s.remove)]
    return found if ending else None


def torn(plan: Plan, left_out: Mapping[str, NodeFacts], group: str) -> Iterator[Finding]:
    """Why a plan that ends ranks would leave half a group running.

    + left_out: the nodes that it does not touch
    """
    ending = [step.node for step in plan.steps if step.stop]
    staying = [n for n, seen in left_out.items() if any(r.alive for r in members(seen, group))]
    if ending and staying:
        yield error(
            f"--limit leaves out {', '.join(staying)}, where ranks of the same group run: half a "
            "group serves nothing",
            cure="run without --limit",
        )


def _endings(facts: Mapping[str, NodeFacts], state: str, group: str) -> Iterator[Step]:
    """Every rank of the group shall be stopped, or absent."""
    for node, seen in facts.items():
        for rank in members(seen, group):
            step = Step(node, rank.name, rank, None)
            if state == "absent":
                yield replace(step, reasons=("is there",), remove=True)
            else:
                yield replace(step, reasons=tuple(_restless(step)))


def _restless(step: Step) -> Iterator[str]:
    """Why a rank that shall be stopped is not, or would not stay so."""
    if step.stop:
        yield "is running"
    elif step.seen and step.seen.restart_policy not in ("", "no"):
        yield f"would come back: its restart policy is {step.seen.restart_policy}"


def _step(node: str, spec: Spec, facts: NodeFacts) -> Step:
    seen = next((rank for rank in facts.ranks if rank.name == spec.name), None)
    cdi = facts.engine is not None and facts.engine.only_cdi
    if seen is None:
        return Step(node, spec.name, None, spec, ("is not there",), recreate=True, cdi=cdi)
    drift = changes(seen.label or "", spec) if seen.label != spec.dump() else ()
    image = facts.image
    if image is not None and seen.image_id and image.id != seen.image_id:
        drift += (f"image id: {_short(seen.image_id)} -> {_short(image.id)}",)
    if drift:
        return Step(node, spec.name, seen, spec, drift, recreate=True, cdi=cdi)
    reasons = () if seen.running else (f"is {_status(seen)}",)
    return Step(node, spec.name, seen, spec, reasons, cdi=cdi)


def _strays(spec: Spec | None, facts: NodeFacts, group: str) -> Iterator[Step]:
    """Ranks of ours under a name that is not wanted here: renamed, moved, or left by head_only."""
    for rank in members(facts, group):
        if spec is None or rank.name != spec.name:
            yield Step(facts.name, rank.called, rank, None, (_why_gone(rank),), remove=True)


def _why_gone(rank: Rank) -> str:
    """Why a rank of ours that no spec names must go."""
    if rank.container:
        return "was left by a switch that was interrupted"
    if rank.name.endswith(FAILED):
        return "was kept for inspection after it had failed"
    if rank.name.endswith(PREVIOUS):
        return "was kept until the group after it served"
    return "is no longer wanted"


def _because(step: Step, reason: str) -> Step:
    """A restart for a reason of the whole group's, told once, at the head."""
    reasons = step.reasons or ((reason,) if step.is_head else ())
    return replace(step, reasons=reasons)


def _policies(steps: list[Step]) -> Iterator[tuple[str, str]]:
    for step in steps:
        if step.seen and step.spec and step.seen.restart_policy != step.spec.restart_policy:
            yield step.node, step.spec.restart_policy


def _foreign(specs: Mapping[str, Spec], facts: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    for node, spec in specs.items():
        ours = members(facts[node], spec.group)
        for rank in facts[node].ranks:
            if rank.name == spec.name and rank not in ours:
                yield _not_ours(node, spec, rank)


def _not_ours(node: str, spec: Spec, rank: Rank) -> Finding:
    why = f"it belongs to the group {rank.group}" if rank.group else "it lacks our label"
    if rank.label is not None and not rank.group:
        why = "its label tells no group"
    setting = "head_container" if spec.rank == 0 else "worker_container"
    return error(
        f"a container named {spec.name} is there and is not ours ({why})",
        node,
        f"docker rename {spec.name} {spec.name}-old, or --data {setting}=another-name",
    )


def _status(rank: Rank) -> str:
    code = f", exit code {rank.exit_code}" if rank.exit_code is not None else ""
    return f"{rank.status}{code}{', killed for memory' if rank.oom_killed else ''}"


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]

"""Declared against actual, for the whole group at once: what must happen to each rank, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cluster import findings, printable
from cluster.node.readings import NodeFacts, Rank
from cluster.plan import previous_group
from cluster.rank.spec import Spec, label_drift


@dataclass(frozen=True)
class RankStep:
    """What becomes of one rank on one node.

    + current: the rank as it is, None where there is none
    + spec: the rank as declared, None where it must not run
    + reasons: why it changes, one difference each; empty where it stays
    + recreate: its container must be created anew (else what is there is used again)
    + remove: its container must go
    + cdi: its GPUs come as CDI devices: the node's Docker has no other way
    + image_id: of the image that a container created for it has; "" while it is not there
    """

    node: str
    name: str
    current: Rank | None
    spec: Spec | None
    reasons: tuple[str, ...] = ()
    recreate: bool = False
    remove: bool = False
    cdi: bool = False
    image_id: str = ""

    @property
    def starts(self) -> tuple[Spec, str] | None:
        """What its container is started from, and its image's id; None where none is declared."""
        if self.recreate or self.current is None or self.spec is None:
            return (self.spec, self.image_id) if self.spec else None
        return self.current.spec or self.spec, self.current.image_id

    @property
    def stop(self) -> bool:
        return self.current is not None and self.current.alive

    @property
    def is_head(self) -> bool:
        """Rank 0 of its group: it must be stopped first, SGLang's workers ignore SIGTERM.

        What runs decides, not what it is to become.
        """
        number = self.current.number if self.current else None
        if number is None and self.spec is not None:
            return self.spec.rank == 0
        return number == 0


@dataclass(frozen=True)
class Plan:
    """Everything that a deploy will do to the ranks.

    + steps: declared ranks in rank order, then the strays: ours, but no longer declared
    + restart: the group's ranks are stopped and started together
    + policies: node → restart policy to set on a rank that stays as it is
    + previous: the group to put back if the declared one does not get ready; None: there is none
    """

    steps: tuple[RankStep, ...]
    restart: bool
    policies: Mapping[str, str]
    previous: previous_group.PreviousGroup | None = None

    @property
    def changes(self) -> bool:
        return bool(
            self.restart or self.policies or self.renames or any(s.reasons for s in self.steps)
        )

    @property
    def renames(self) -> Mapping[str, Rank]:
        """Node → the rank that an interrupted switch has set aside, and that stays."""
        staying = {s.node: s.current for s in self.steps if s.spec and not s.recreate}
        return {node: rank for node, rank in staying.items() if rank and rank.container}

    def of(self, node: str) -> tuple[RankStep, ...]:
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


def make_plan(
    specs: Mapping[str, Spec],
    facts: Mapping[str, NodeFacts],
    state: str,
    restart: str = "",
    group: str = "sglang",
    rollback: bool = True,
) -> Plan:
    """What to do so that every node runs its spec, and nothing else of ours.

    + specs: node → its declared rank; nodes that are only in facts are to run none
    + state: "running", "stopped" (containers stay) or "absent" (they go)
    + restart: a reason to restart a group whose specs are right (it hangs), or ""
    + group: whose ranks these are; those of other groups are never touched
    + rollback: keep a group that serves until the declared one is ready
    """
    if state != "running":
        return Plan(tuple(_endings(facts, state, group)), restart=False, policies={})
    findings.refuse_errors(_foreign_containers(specs, facts))
    declared = [_step(node, spec, facts[node]) for node, spec in specs.items()]
    if restart:
        # A reason that concerns the whole group is shown once, at the head.
        declared = [
            replace(step, reasons=(restart,)) if step.is_head and not step.reasons else step
            for step in declared
        ]
    strays = [
        RankStep(node, rank.called, rank, None, (_why_gone(rank),), remove=True)
        for node, node_facts in facts.items()
        for rank in previous_group.members(node_facts, group)
        if node not in specs or rank.name != specs[node].name
    ]
    changed = any(step.reasons for step in declared) or any(stray.stop for stray in strays)
    ending = [s for s in (*declared, *strays) if s.recreate or s.remove]
    previous = previous_group.find_previous_group(facts, group) if rollback else None
    if previous and not any(previous.holds(step.node, step.current) for step in ending):
        previous = None  # all of its containers are simply started again
    # A rank that is kept for its group can't serve in the next one.
    declared = [
        replace(step, recreate=True)
        if previous and previous.holds(step.node, step.current)
        else step
        for step in declared
    ]
    policies = {
        step.node: step.spec.restart_policy
        for step in declared
        if step.current and step.spec and not changed
        if step.current.restart_policy != step.spec.restart_policy
    }
    return Plan((*declared, *strays), changed, policies, previous)


def find_split_group(
    plan: Plan, left_out: Mapping[str, NodeFacts], group: str
) -> Iterator[findings.Finding]:
    """Why a plan that ends ranks would leave half a group running.

    + left_out: the nodes that it does not touch
    """
    staying = [
        node
        for node, f in left_out.items()
        if any(r.alive for r in previous_group.members(f, group))
    ]
    if staying and any(step.stop for step in plan.steps):
        yield findings.error(
            f"--limit leaves out {', '.join(staying)}, where ranks of the same group run: half a "
            "group serves nothing",
            cure="run without --limit",
            key="limit",
        )


def _endings(facts: Mapping[str, NodeFacts], state: str, group: str) -> Iterator[RankStep]:
    """Every rank of the group is to be stopped, or absent."""
    for node, node_facts in facts.items():
        for rank in previous_group.members(node_facts, group):
            step = RankStep(node, rank.name, rank, None)
            if state == "absent":
                yield replace(step, reasons=("is there",), remove=True)
            elif rank.alive:
                yield replace(step, reasons=("is running",))
            elif rank.restart_policy not in ("", "no"):
                why = f"would restart: its restart policy is {rank.restart_policy}"
                yield replace(step, reasons=(why,))
            else:
                yield step


def _step(node: str, spec: Spec, facts: NodeFacts) -> RankStep:
    """What becomes of a declared rank: created, created anew, started, or left as it is."""
    rank = next((rank for rank in facts.ranks if rank.name == spec.name), None)
    cdi = facts.engine is not None and facts.engine.only_cdi
    image = facts.image.id if facts.image else ""
    step = RankStep(node, spec.name, rank, spec, cdi=cdi, image_id=image)
    if rank is None:
        return replace(step, reasons=("is not there",), recreate=True)
    same = rank.label == spec.dump()
    drift = () if same else label_drift(rank.label or "", spec, serves=rank.running)
    if facts.image is not None and rank.image_id not in ("", facts.image.id):
        old, new = map(printable.short_image_id, (rank.image_id, facts.image.id))
        drift += (f"image id: {old} -> {new}",)
    if drift:
        return replace(step, reasons=drift, recreate=True)
    if rank.running:
        return step
    code = f", exit code {rank.exit_code}" if rank.exit_code is not None else ""
    killed = ", killed for memory" if rank.oom_killed else ""
    return replace(step, reasons=(f"is {rank.status}{code}{killed}",))


def _why_gone(rank: Rank) -> str:
    """Why a rank of ours that no spec names must go."""
    if rank.container:
        return "was left by a switch that was interrupted"
    if rank.name.endswith(previous_group.FAILED):
        return "was kept for inspection after it had failed"
    if rank.name.endswith(previous_group.PREVIOUS):
        return "was kept until the group after it served"
    return "is no longer part of the group"


def _foreign_containers(
    specs: Mapping[str, Spec], facts: Mapping[str, NodeFacts]
) -> Iterator[findings.Finding]:
    """Containers under a declared name that are not this group's."""
    for node, spec in specs.items():
        for rank in facts[node].ranks:
            if rank.name != spec.name or rank.group == spec.group:
                continue
            why = f"it belongs to the group {rank.group}" if rank.group else "it lacks our label"
            if rank.label is not None and not rank.group:
                why = "its label names no group"
            setting = "head_container" if spec.rank == 0 else "worker_container"
            yield findings.error(
                f"a container named {spec.name} exists and is not ours ({why})",
                node,
                f"docker rename {spec.name} {spec.name}-old, or --data {setting}=another-name",
                key="container-foreign",
            )

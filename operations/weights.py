"""The model's files on every node, before an engine reads them."""

from collections.abc import Callable, Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster import findings, printable
from operations import outcome
from operations.node_weights import WeightsJob


@operation()
def present(job: Callable[[], WeightsJob], needed: bool) -> Generator[FunctionCommand, None, None]:
    """Have the model's files on every node of the group, each checked by its hash.

    The head downloads what it lacks, the others copy it from there. Files that did not change since
    they were checked are not read again. A failure leaves whatever serves alone.

    + job: what, for which nodes; called when the operation runs
    + needed: whether ranks are about to start, or the files must be read again
    """
    if needed:
        yield FunctionCommand(_present, (job,), {})
    else:
        host.noop("the group is already serving them")


def _present(state: State, host: Host, job: Callable[[], WeightsJob]) -> bool:
    outcome.begin_step("weights")
    try:
        bring(job())
    except findings.Refused as refused:
        host.log_styled("the weights are incomplete; no rank was touched:", fg="red")
        for finding in refused.findings:
            outcome.log_failure(host, finding, indent="  ")
        return False
    return True


def bring(job: WeightsJob) -> None:
    """Read, download, copy; raises Refused with what went wrong."""
    from operations import copy, download, node_weights  # a converged run does without

    download.take_over(job)
    stored = node_weights.read_weights(job, job.hosts)
    head = stored[job.head.name]
    for name, one in stored.items():
        if not one.read:
            continue
        lone = 0 if one.listed else sum(f.by == "itself" for f in one.good.values())
        first = (
            f"; {lone} file(s) have no hash from the hub: this reading is the reference from now on"
        )
        text = f"weights of {job.model}: {printable.gigabytes(one.read)} read and hashed"
        job.hosts[name].log(text + first * bool(lone))
    wrong = {name: tuple(one.bad) for name, one in stored.items() if one.bad}
    if head.complete:
        commit, files = head.commit, head.wanted
        if head.read or not head.listed:
            node_weights.record_weights(job, job.head, commit, files.values(), job.ref(commit))
    else:
        commit, files = download.complete(job, stored)
    other = [name for name in job.workers if stored[name].commit != commit]
    there = {**stored, **(node_weights.read_weights(job, other, commit) if other else {})}
    copy.copy_to_workers(job, commit, files, there)
    restart = (
        "; the running rank may still have the bad data loaded: --data state=stopped, then "
        "deploy again"
    )
    for name, paths in wrong.items():
        text = f"{', '.join(paths[:3])} was corrupt and has been repaired"
        job.hosts[name].log_styled(text + restart * job.serves, fg="yellow")

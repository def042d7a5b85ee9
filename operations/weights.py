"""The model's files on every node, and its draft model's, before an engine reads them."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster import findings, printable
from cluster.transfer import repository, stored
from operations import node_weights, outcome

RESTART = (
    "; the running rank may still have the bad data loaded: --data state=stopped, then deploy again"
)


@operation()
def present(
    jobs: Callable[[], Sequence[node_weights.WeightsJob]], needed: bool
) -> Generator[FunctionCommand, None, None]:
    """Have each model's files on every node of the group, each checked by its hash.

    The head downloads what it lacks, the others copy it from there. Files that did not change since
    they were checked are not read again. A failure leaves whatever serves alone.

    + jobs: what, for which nodes; called when the operation runs
    + needed: whether ranks are about to start, or the files must be read again
    """

    def bring_all(state: State, host: Host) -> bool:
        outcome.begin_step("weights")
        try:
            bring(jobs())
        except findings.Refused as refused:
            host.log_styled("the weights are incomplete; no rank was touched:", fg="red")
            for finding in refused.findings:
                outcome.log_failure(host, finding, indent="  ")
            return False
        return True

    if needed:
        yield FunctionCommand(bring_all, (), {})
    else:
        host.noop("the group is already serving them")


@dataclass(frozen=True)
class Transfer:
    """A job, and what is known of it before the first file comes; mappings by node name.

    + read: what each node has, at the commit that it has
    + commit, files: what every node must have
    + there: what each node has of that commit
    """

    job: node_weights.WeightsJob
    read: Mapping[str, stored.StoredModel]
    commit: str
    files: Mapping[str, repository.File]
    there: Mapping[str, stored.StoredModel]


def bring(jobs: Sequence[node_weights.WeightsJob]) -> None:
    """Read, download, copy; raises Refused with what went wrong.

    What the hub lists of each model, and the room for all of them, is checked before the first file
    comes.
    """
    from operations import copy, download  # a converged run does not need it

    download.take_over(jobs)
    read = [(job, _read(job)) for job in jobs]
    transfers = [_find(job, nodes) for job, nodes in read]
    findings.refuse_errors(_full_disks(transfers))
    # The draft model first: it is small, and what the hub refuses of it is known at once.
    for transfer in transfers[::-1]:
        job, files, there = transfer.job, transfer.files, transfer.there
        if not transfer.read[job.head.name].complete:
            files = download.download_files(job, transfer.commit, files, there[job.head.name])
            there = _at_commit(job, job.workers, transfer.read, transfer.commit)
        copy.copy_to_workers(job, transfer.commit, files, there)
        for name, one in transfer.read.items():
            if one.bad:
                text = f"{', '.join(list(one.bad)[:3])} was corrupt and has been repaired"
                job.hosts[name].log_styled(text + RESTART * job.serves, fg="yellow")


def _read(job: node_weights.WeightsJob) -> dict[str, stored.StoredModel]:
    """What each node has."""
    nodes = node_weights.read_weights(job, job.hosts)
    for name, one in nodes.items():
        if not one.read:
            continue
        lone = 0 if one.listed else sum(f.by == "itself" for f in one.good.values())
        first = (
            f"; {lone} file(s) have no hash from the hub: this reading is the reference from now on"
        )
        text = f"weights of {job.model}: {printable.gigabytes(one.read)} read and hashed"
        job.hosts[name].log(text + first * bool(lone))
    return nodes


def _find(job: node_weights.WeightsJob, read: Mapping[str, stored.StoredModel]) -> Transfer:
    """What there is to do: what a whole head has goes to the others, else what the hub lists."""
    from operations import download  # a converged run does not need it

    head = read[job.head.name]
    if head.complete:
        commit, files = head.commit, head.wanted
        if head.read or not head.listed:
            node_weights.record_weights(job, job.head, commit, files.values(), job.ref(commit))
    else:
        commit, files = download.list_hub_files(job, head)
    return Transfer(job, read, commit, files, _at_commit(job, job.hosts, read, commit))


def _at_commit(
    job: node_weights.WeightsJob,
    names: Iterable[str],
    read: Mapping[str, stored.StoredModel],
    commit: str,
) -> dict[str, stored.StoredModel]:
    """What each node has of a commit; those of `names` that were read at another are read again."""
    other = [name for name in names if read[name].commit != commit]
    return {**read, **(node_weights.read_weights(job, other, commit) if other else {})}


def _full_disks(transfers: Sequence[Transfer]) -> Iterator[findings.Finding]:
    """Nodes without room for all that comes to them. A model that is a path may lie on another disk
    than the hub's cache."""
    for local in (False, True):
        same = [transfer for transfer in transfers if transfer.job.local == local]
        for name in same[0].job.hosts if same else ():
            there = [(transfer.there[name], transfer.files) for transfer in same]
            coming = [(one, stored.missing_files(files, one)) for one, files in there]
            if full := stored.find_missing_space(name, coming):
                yield full

"""What an engine reads before it serves: the model's files, and tiktoken vocabularies."""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.findings import Refused
from cluster.weights import place
from cluster.weights.files import File
from cluster.weights.held import GB, Held
from operations import shell
from operations.holding import Job

SECONDS = 700


@operation()
def present(job: Callable[[], Job], needed: bool) -> Generator[FunctionCommand, None, None]:
    """Have the model's files on every node of the group, each checked by its hash.

    The head downloads what it lacks, the others copy it from there. Files that did not change since
    they were checked are not read again. A failure leaves whatever serves alone.

    + job: what, for which nodes; asked when the operation runs
    + needed: whether ranks are about to start, or the files shall be read again
    """
    if needed:
        yield FunctionCommand(_present, (job,), {})
    else:
        host.noop("the group serves them already")


@operation()
def vocabularies(
    folder: str, source: str, files: Mapping[str, str]
) -> Generator[FunctionCommand, None, None]:
    """Place tiktoken files, each checked by its hash before it is moved to its name.

    + folder: on the node
    + source: URL that has them, or a folder on the controller
    + files: those that the node lacks: name → SHA-256
    """
    if not files:
        host.noop("the vocabularies are there")
    for name, sha256 in files.items():
        yield FunctionCommand(_place, (folder, source, name, sha256), {})


def _present(state: State, host: Host, job: Callable[[], Job]) -> bool:
    try:
        bring(job())
    except Refused as refused:
        host.log_styled("the weights are not all there; no rank was touched:", fg="red")
        for finding in refused.findings:
            host.log_styled(f"  {finding}", fg="red")
        return False
    return True


def bring(job: Job) -> None:
    """Look, download, copy; Refused with what went wrong."""
    from operations import download, holding, spread  # a converged run does without

    download.take_over(job)
    seen = holding.look(job, job.hosts)
    head = seen[job.head.name]
    _tell_read(job, seen)
    wrong = {name: tuple(one.bad) for name, one in seen.items() if one.bad}
    if head.complete:
        commit, files = head.commit, head.wanted
        if head.read or not head.listed:
            holding.record(job, job.head, commit, files.values(), job.ref(commit))
    else:
        commit, files = download.complete(job, seen)
    other = [name for name in job.workers if seen[name].commit != commit]
    there = {**seen, **(holding.look(job, other, commit) if other else {})}
    at = job.folders[job.head.name] if job.local else f"{_snapshots(job)}/{commit}"
    spread.spread(job, commit, files, at, there)
    _tell_healed(job, wrong)


def _snapshots(job: Job) -> str:
    return f"{job.folders[job.head.name]}/snapshots"


def _tell_read(job: Job, seen: Mapping[str, Held]) -> None:
    for name, one in seen.items():
        if not one.read:
            continue
        lone = [f for f in one.good.values() if f.by == "itself"]
        job.hosts[name].log(
            f"weights of {job.model}: {one.read / GB:.1f} GB read and hashed"
            + (f"; {_known_to_nobody(lone)}" if lone and not one.listed else "")
        )


def _known_to_nobody(files: list[File]) -> str:
    return f"{len(files)} file(s) with no hash of the hub's: from now on held against this reading"


def _tell_healed(job: Job, wrong: Mapping[str, tuple[str, ...]]) -> None:
    for name, paths in wrong.items():
        still = (
            "; its running rank still has the old bytes in memory: --data state=stopped, then "
            "deploy again, to be sure"
            if job.serves
            else ""
        )
        job.hosts[name].log_styled(
            f"{', '.join(paths[:3])} was damaged, and is right again{still}", fg="yellow"
        )


def _place(state: State, host: Host, folder: str, source: str, name: str, sha256: str) -> bool:
    remote = source.startswith(("http://", "https://"))
    local = Path(source).expanduser() / name
    if not remote and not local.is_file():
        host.log_styled(f"tiktoken_source has no {local}", fg="red")
        return False
    content = "" if remote else base64.b64encode(local.read_bytes()).decode()
    url = f"{source.rstrip('/')}/{name}" if remote else ""
    answer = shell.ask(host, place(folder, name, sha256, url), SECONDS, stdin=content)
    if not answer.ok:
        cure = "a folder here: --data tiktoken_source=/folder" if remote else "mend that file"
        host.log_styled(
            f"{name} could not be placed from {source}: {answer.text} -> {cure}", fg="red"
        )
    return answer.ok

"""A model's files from the head to the workers, over the fabric, all workers at once."""

import time
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

import gevent
from pyinfra.api import Host

from cluster import findings, printable
from cluster.transfer import repository, stored, weights
from operations import node_weights, shell, tunnel
from operations.node_weights import WeightsJob

# One stream is bound by one core's encryption. sshd drops connections beyond 10 that are being
# opened (MaxStartups), so that many workers share them.
STREAMS = 8
# The slowest copy that is let go on, bytes a second: a fabric without jumbo frames does more.
SLOWEST = 20 * 10**6
TRIES = 2


def copy_to_workers(
    job: WeightsJob,
    commit: str,
    files: Mapping[str, repository.File],
    there: Mapping[str, stored.StoredModel],
) -> None:
    """Bring every worker to the head's files; Refused with what went wrong."""
    missing = {name: stored.missing_files(files, there[name]) for name in job.workers}
    full = (stored.find_missing_space(name, there[name], need) for name, need in missing.items())
    findings.refuse_errors(filter(None, full))
    todo = {name: need for name, need in missing.items() if need}
    if todo:
        bytes_ = max(stored.total_bytes(need) for need in todo.values())
        seconds = 600 + int(len(todo) * bytes_ / SLOWEST)
        hosts = {name: job.hosts[name] for name in todo}
        begun = time.monotonic()
        source = job.folders[job.head.name]
        opened = tunnel.open_tunnel(job.head, hosts, job.address, seconds, folder=source)
        with opened as way, shell.report_every(_progress_reporter(job, commit, todo)):
            problems = shell.on_all(
                hosts.values(),
                lambda h: _copy_to_worker(job, way, h, commit, files, todo[h.name], seconds),
            )
        findings.refuse_errors(filter(None, problems.values()))
        took = time.monotonic() - begun
        job.head.log(
            f"weights: {printable.gigabytes(bytes_)} copied to {', '.join(todo)} in "
            f"{stored.format_seconds(took)} ({printable.gigabytes(bytes_ / took, 2)}/s each), "
            "every hash verified"
        )
    for name in job.workers:
        # All there already, but in no manifest of this commit: recorded too.
        have = there[name]
        if name not in todo and (have.read or not have.listed or have.commit != commit):
            _place(job, job.hosts[name], commit, files)


def _copy_to_worker(
    job: WeightsJob,
    way: tunnel.Tunnel,
    host: Host,
    commit: str,
    files: Mapping[str, repository.File],
    need: tuple[repository.File, ...],
    seconds: int,
) -> findings.Finding | None:
    """One worker: copied, checked, moved into place; what comes damaged is copied once more."""
    for attempt in range(TRIES):
        if wrong := _streams(job, way, host, commit, need, seconds):
            if attempt + 1 == TRIES:
                return wrong
            continue
        try:
            bad = _place(job, host, commit, files)
        except findings.Refused as refused:
            return refused.findings[0]
        if not bad:
            return None
        host.log(f"{', '.join(bad[:3])} arrived corrupt over the fabric: copying again")
        need = tuple(f for f in need if _name(job, host, f) in bad)
    return findings.error(
        f"{', '.join(bad[:3])} arrived corrupt from {job.head.name} twice: "
        "the hash differs from the head's",
        host.name,
        "--data verify=full; if it persists, check ethtool -S at both ends of the cable, and the "
        "memory",
    )


def _streams(
    job: WeightsJob,
    way: tunnel.Tunnel,
    host: Host,
    commit: str,
    need: tuple[repository.File, ...],
    seconds: int,
) -> findings.Finding | None:
    """Copy over several connections in parallel; partial files are resumed."""
    below = "" if job.local else f"snapshots/{commit}/"
    # What has several names in the cache comes once.
    files = {f.blob or f.path: f for f in need} if not job.local else {f.path: f for f in need}
    wanted = {
        _name(job, host, f): [_name(job, host, f), f"{below}{f.path}" if f.path else "-", f.size]
        for f in files.values()
    }
    part = weights.part_folder(job.folders[host.name], not job.local, commit)
    sizes = {name: f.size for name, f in zip(wanted, files.values(), strict=True)}
    shares = weights.share_out(sizes, max(1, STREAMS // len(job.workers)))

    def receive(share: list[str]) -> str:
        request = {"do": "receive", "ssh": way.ssh(host.name), "part": part, "stall": job.stall}
        request["files"] = [wanted[name] for name in share]
        try:
            return str(
                node_weights.query_node(job, host, request, seconds).get("failed", "no answer")
            )
        except findings.Refused as refused:
            return refused.findings[0].what

    work = [gevent.spawn(receive, share) for share in shares]
    gevent.joinall(work)
    failed = [w.value or "the transfer was interrupted" for w in work if w.value != ""]
    if not failed:
        return None
    return findings.error(
        f"the weights could not be copied from {job.head.name} over {job.address}: "
        f"{printable.tail(failed[0])}",
        host.name,
        'put the file itself there: cp --remove-destination "$(readlink -f FILE)" FILE'
        if "is a link that leaves" in failed[0]
        else "run this again: it resumes where it stopped",
    )


def _name(job: WeightsJob, host: Host, file: repository.File) -> str:
    return file.path or PurePosixPath(job.folders[host.name]).name


def _place(
    job: WeightsJob, host: Host, commit: str, files: Mapping[str, repository.File]
) -> list[str]:
    """Move what has come to its name, once its hash is right; the names of what was not right."""
    request = {
        "do": "place",
        "commit": commit,
        "ref": job.ref(commit),
        "files": stored.manifest_entries(files.values()),
        "part": weights.part_folder(job.folders[host.name], not job.local, commit),
    }
    reply = node_weights.query_node(job, host, request, node_weights.READ_SECONDS)
    node_weights.warn_unrecorded(job, host, reply.get("unrecorded"))
    # Without the list nothing was placed.
    bad = reply.get("bad")
    return bad if isinstance(bad, list) else [_name(job, host, f) for f in files.values()]


def _progress_reporter(
    job: WeightsJob, commit: str, todo: Mapping[str, tuple[repository.File, ...]]
) -> Callable[[float], None]:
    """A function that logs each worker's progress."""
    progress = {
        name: stored.TransferProgress(stored.total_bytes(need), time.monotonic())
        for name, need in todo.items()
    }

    def report(_: float) -> None:
        for name, one in progress.items():
            part = weights.part_folder(job.folders[name], not job.local, commit)
            answer = shell.run_command(job.hosts[name], weights.measure_folder(part))
            size = next(iter((answer.out or ("0",))[0].split()), "0")
            if answer.ok and size.isdigit():
                one.note(int(size) * 1024, time.monotonic())
            job.hosts[name].log(f"weights: {one.line(time.monotonic())}")

    return report

"""From node to node over the fabric: a one-time SSH tunnel, and a model's files through it to all
workers at once."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import gevent
from pyinfra.api import Host

from cluster import findings, printable
from cluster.transfer import repository, stored, tunnel, weights
from operations import node_weights, shell


@dataclass(frozen=True)
class Tunnel:
    """An open tunnel: each target requests what it needs, the source only sends.

    + user, address, port: how the source's sshd is reached
    """

    user: str
    address: str
    port: int
    keys: Mapping[str, tunnel.Key] = field(repr=False)

    def ssh(self, target: str) -> tuple[str, ...]:
        """The ssh command up to and including the address, to be run on the target.

        What may follow: `send`, with the files' names on stdin (`DISPATCHER`), or `docker save
        REFERENCE`.
        """
        options = tunnel.ssh_argv(self.keys[target], self.port)
        return (*options, "-l", self.user, "--", self.address)


@contextmanager
def open_tunnel(
    source: Host,
    targets: Mapping[str, Host],
    address: str,
    seconds: int,
    *,
    folder: str = "",
    image: str = "",
) -> Iterator[Tunnel]:
    """Open a tunnel from source to targets, and close it whatever happens.

    One tunnel from a source at a time: a new one removes the keys of older ones.

    + address: the source's, on the fabric
    + seconds: after which no new transfer begins, and running ones end; if nothing closes the
      tunnel (a killed controller), the keys are worthless from then on
    + folder, image: all that can be read: the files of a folder (or one file), an image
    Raises Refused, with nothing left behind, where a target can't use it.
    """
    keys: dict[str, tunnel.Key] = {}
    try:
        sender = _make_keys(source, targets, address, keys)
        name, given = secrets.token_hex(8), list(keys.values())
        command = tunnel.admit_keys(given, name, seconds, folder=folder, image=image)
        answer = shell.run_command(source, command)
        if not answer.ok:
            raise findings.Refused(tunnel.source_unreadable(source.name, answer.text))
        port = sender.port or int(source.data.get("ssh_port") or 22)
        opened = Tunnel(sender.user, address, port, keys)

        def try_tunnel(target: Host) -> findings.Finding | None:
            command = tunnel.try_tunnel(keys[target.name], sender, opened.ssh(target.name))
            answer = shell.run_command(target, command)
            if answer.ok:
                # `true` prints nothing: the source's shell did, and would before each file, too.
                return tunnel.noisy_login(source.name, answer.text) if answer.out else None
            return tunnel.tunnel_closed(target.name, source.name, address, port, answer.text)

        findings.refuse_errors(filter(None, shell.on_all(targets.values(), try_tunnel).values()))
        yield opened
    finally:
        _close(source, targets, keys)


def _make_keys(
    source: Host, targets: Mapping[str, Host], address: str, keys: dict[str, tunnel.Key]
) -> tunnel.Source:
    """Create all targets' keys, into `keys`; returns the source's login, port and host keys."""
    senders: list[tunnel.Source] = []

    def prepare(host: Host) -> findings.Finding | None:
        if host.name == source.name:
            answer = shell.run_command(host, tunnel.survey_source())
            sender = tunnel.parse_source(answer.out) if answer.ok else None
            senders.extend([sender] if sender else [])
            return None if sender else tunnel.source_unreadable(host.name, answer.text)
        answer = shell.run_command(host, tunnel.make_key(address))
        key = tunnel.parse_key(answer.out) if answer.ok else None
        keys.update({host.name: key} if key else {})
        return None if key else tunnel.key_not_made(host.name, address, answer.text)

    findings.refuse_errors(
        filter(None, shell.on_all((source, *targets.values()), prepare).values())
    )
    return senders[0]


def _close(source: Host, targets: Mapping[str, Host], keys: Mapping[str, tunnel.Key]) -> None:
    def close(host: Host) -> None:
        command = (
            tunnel.clear_keys() if host.name == source.name else tunnel.drop_key(keys[host.name])
        )
        answer = shell.run_command(host, command)
        if not answer.ok:
            host.log_styled(
                f"a one-time key was left behind: {answer.text}; it expires, and the next run "
                "clears it",
                fg="yellow",
            )

    shell.on_all((source, *(targets[name] for name in keys)), close)


# Parallel connections, as one is limited by a single core's encryption. The workers share them,
# since sshd drops connections beyond 10 that are being opened (MaxStartups).
STREAMS = 8
# Bytes a second; a slower copy runs out of time. Even a fabric without jumbo frames is faster.
SLOWEST = 20 * 10**6
TRIES = 2


def copy_to_workers(
    job: node_weights.WeightsJob,
    commit: str,
    files: Mapping[str, repository.File],
    there: Mapping[str, stored.StoredModel],
) -> None:
    """Bring every worker to the head's files; Refused with what went wrong."""
    missing = {name: stored.missing_files(files, there[name]) for name in job.workers}
    full = (
        stored.find_missing_space(name, [(there[name], need)]) for name, need in missing.items()
    )
    findings.refuse_errors(filter(None, full))
    todo = {name: need for name, need in missing.items() if need}
    if todo:
        bytes_ = max(stored.total_bytes(need) for need in todo.values())
        seconds = 600 + int(len(todo) * bytes_ / SLOWEST)
        hosts = {name: job.hosts[name] for name in todo}
        begun = time.monotonic()
        source = job.folders[job.head.name]
        opened = open_tunnel(job.head, hosts, job.address, seconds, folder=source)
        with opened as way, shell.report_every(_progress_reporter(job, commit, todo)):
            problems = shell.on_all(
                hosts.values(),
                lambda h: _copy_to_worker(job, way, h, commit, files, todo[h.name], seconds),
            )
        findings.refuse_errors(filter(None, problems.values()))
        took = time.monotonic() - begun
        job.head.log(
            f"{job.kind}: {printable.gigabytes(bytes_)} copied to {', '.join(todo)} in "
            f"{stored.format_seconds(took)} ({printable.gigabytes(bytes_ / took, 2)}/s each), "
            "every hash verified"
        )
    for name in job.workers:
        # A worker that has all files, but no manifest of this commit: record them there too.
        have = there[name]
        if name not in todo and (have.read or not have.listed or have.commit != commit):
            _place(job, job.hosts[name], commit, files)


def _copy_to_worker(
    job: node_weights.WeightsJob,
    way: Tunnel,
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
        key="copy-corrupt",
    )


def _streams(
    job: node_weights.WeightsJob,
    way: Tunnel,
    host: Host,
    commit: str,
    need: tuple[repository.File, ...],
    seconds: int,
) -> findings.Finding | None:
    """Copy over several connections in parallel; partial files are resumed."""
    below = "" if job.local else f"snapshots/{commit}/"
    # A blob that has several names in the cache is copied once.
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
        key="copy-failed",
    )


def _name(job: node_weights.WeightsJob, host: Host, file: repository.File) -> str:
    return file.path or PurePosixPath(job.folders[host.name]).name


def _place(
    job: node_weights.WeightsJob, host: Host, commit: str, files: Mapping[str, repository.File]
) -> list[str]:
    """Move what has arrived into place if its hash is right; returns the names of the rest."""
    request = {
        "do": "place",
        "commit": commit,
        "ref": job.ref(commit),
        "files": stored.manifest_entries(files.values()),
        "part": weights.part_folder(job.folders[host.name], not job.local, commit),
    }
    reply = node_weights.query_node(job, host, request, node_weights.READ_SECONDS)
    node_weights.warn_unrecorded(job, host, reply.get("unrecorded"))
    # An answer without the list means that nothing was placed.
    bad = reply.get("bad")
    return bad if isinstance(bad, list) else [_name(job, host, f) for f in files.values()]


def _progress_reporter(
    job: node_weights.WeightsJob, commit: str, todo: Mapping[str, tuple[repository.File, ...]]
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
            job.hosts[name].log(f"{job.kind}: {one.line(time.monotonic())}")

    return report

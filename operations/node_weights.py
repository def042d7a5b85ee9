"""A model's files on the nodes, read and recorded by each node's own Python, in parallel."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra.api import Host

from cluster.findings import Finding, Refused, error
from cluster.transfer import repository, weights
from cluster.transfer.stored import StoredModel, manifest_entries, parse_stored_model
from operations import scripts, shell

SCRIPT = scripts.bundle("weights_here.py")
# Seconds. Reading and hashing hundreds of GB takes long, but not forever.
READ_SECONDS = 6 * 3600


@dataclass(frozen=True)
class WeightsJob:
    """A model, or its draft model, to bring to every node; mappings are by node name, rank 0 first.

    + folders: the repository's folder in the hub's cache, or the local path
    + caches: HF_HOME
    + local: the model is a path, not a repository
    + draft: it is the draft model
    + revision: commit, branch or tag; "": what the head has, else the newest
    + full: read every file again
    + address: the head's, for the other nodes
    + serves: the group runs, and does not restart for this
    """

    hosts: Mapping[str, Host]
    folders: Mapping[str, str]
    caches: Mapping[str, str]
    model: str
    local: bool
    draft: bool
    revision: str
    image: str
    group: str
    endpoint: str
    offline: bool
    full: bool
    stall: int
    token: Callable[[], str]
    address: str
    serves: bool

    @property
    def head(self) -> Host:
        return next(iter(self.hosts.values()))

    @property
    def workers(self) -> dict[str, Host]:
        return {name: host for name, host in self.hosts.items() if host is not self.head}

    @property
    def kind(self) -> str:
        """What it is called beside the other one, in lines about its progress."""
        return "draft" if self.draft else "weights"

    def ref(self, commit: str) -> str:
        """The name by which the engine finds the commit; "" where it uses the commit itself."""
        return "" if self.local or self.revision == commit else self.revision or "main"


def read_weights(
    job: WeightsJob, names: Iterable[str], revision: str | None = None
) -> dict[str, StoredModel]:
    """What these nodes have; what an engine created as root is given to the login first."""
    requested = job.revision if revision is None else revision
    log = job.head.log
    with shell.report_every(lambda s: log(f"reading and hashing the model's files, {s:.0f} s")):
        return shell.on_all(
            [job.hosts[name] for name in names], lambda h: _read_node(job, h, requested)
        )


def _read_node(job: WeightsJob, host: Host, revision: str) -> StoredModel:
    """What one node holds; a folder that it may not write is given to the login, and read again."""

    def read() -> StoredModel:
        cache = f"{job.caches[host.name].rstrip('/')}/hub"
        request = {"do": "look", "revision": revision, "full": job.full, "cache": cache}
        reply = query_node(job, host, request, READ_SECONDS)
        try:
            return parse_stored_model(reply)
        except ValueError as wrong:
            raise Refused(_unreadable(job, host, "look", str(wrong))) from None

    stored = read()
    if not stored.closed:
        return stored
    host.log(f"{stored.closed[0]} belongs to root, as an engine left it: giving it to the login")
    # This includes the cache's own folder, if the engine created it.
    folder = job.folders[host.name]
    answer = shell.run_command(host, weights.chown_to_login(folder, *stored.owner, job.image))
    if not answer.ok:
        raise Refused(
            error(
                f"{stored.closed[0]} is not writable, and chown failed: {answer.text}",
                host.name,
                f"sudo chown -R $USER {folder}",
                key="hf-cache-not-writable",
            )
        )
    return read()


def record_weights(
    job: WeightsJob, host: Host, commit: str, files: Iterable[repository.File], ref: str
) -> None:
    """Record the files and their hashes in the manifest beside them; log it if that fails."""
    request = {"do": "record", "commit": commit, "ref": ref, "files": manifest_entries(files)}
    warn_unrecorded(job, host, query_node(job, host, request, 120).get("unrecorded"))


def warn_unrecorded(job: WeightsJob, host: Host, why: object) -> None:
    """Log that a check could not be recorded; the files are served all the same.

    + why: "" where it was recorded
    """
    if why:
        host.log_styled(
            f"the check of {job.model} could not be recorded in {job.folders[host.name]}: its "
            f"files will be read and hashed again before every start ({why})",
            fg="yellow",
        )


def query_node(
    job: WeightsJob, host: Host, request: dict[str, Any], seconds: int
) -> dict[str, Any]:
    """One question to weights_here.py; Refused where the node can't answer."""
    whole = {**request, "root": job.folders[host.name], "hub": not job.local}
    answer = shell.run_command(host, weights.run_script(SCRIPT, seconds, json.dumps(whole)))
    try:
        reply = json.loads(answer.out[-1]) if answer.ok else None
    except (ValueError, IndexError, RecursionError):
        reply = None
    if isinstance(reply, dict) and "unfit" not in reply:
        return reply
    lines = answer.text.splitlines()
    why = lines[0] if answer.lost else str(reply["unfit"]) if reply else "; ".join(lines[-1:])
    raise Refused(_unreadable(job, host, request["do"], why))


def _unreadable(job: WeightsJob, host: Host, do: str, why: str) -> Finding:
    return error(
        f"the weights in {job.folders[host.name]} could not be {_DONE[do]}: {why[:300]}",
        host.name,
        f"ls -la {job.folders[host.name]}",
        key="weights-unreadable",
    )


_DONE = {"look": "read", "record": "recorded", "place": "put in place", "receive": "received"}

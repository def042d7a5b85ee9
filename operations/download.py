"""The head gets a model's files from the hub: Hugging Face's client in a container of ours."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pyinfra.api import Host

from cluster import findings, printable
from cluster.catalog.models import Model
from cluster.engine.readiness import REPORT_SECONDS
from cluster.settings.schema import Settings
from cluster.transfer import description, gate, hub_errors, repository, stored, weights
from operations import node_weights, scripts, shell

SCRIPT = scripts.bundle("hub_client.py")
# What another try does not change.
REFUSALS = ("gated", "denied", "repository", "revision", "unfit")
# Seconds for the client to list a repository's files.
LIST_SECONDS = 120
# Between two readings of the container, seconds.
PAUSE = 1.0
# Seconds. The container's own stall limit should end it; this much later it counts as hanging.
GRACE = 60


def read_description(
    head: Host, model: Model, settings: Settings, token: str
) -> tuple[Model, tuple[findings.Finding, ...]]:
    """The model with what the hub has of it, and findings: an error where the model could not be
    downloaded or loaded, a warning where the hub did not answer."""
    place = (settings.revision, settings.hf_endpoint)
    command = weights.describe_repository(model.id, *place, settings.image, SCRIPT, token)
    answer = shell.run_command(head, command)
    reply: object = None
    with suppress(ValueError, IndexError, RecursionError):
        reply = json.loads(answer.out[-1])
    if isinstance(reply, dict) and "error" not in reply and answer.ok:
        return description.describe_from_hub(model, reply, head.name)
    failure = reply if isinstance(reply, dict) and "error" in reply else {"error": "other"}
    kind, text = str(failure["error"]), str(failure.get("text", ""))
    finding = hub_errors.explain_failure(
        kind, text, head.name, model.id, *place, _count(failure.get("status"))
    )
    if kind not in REFUSALS:
        finding = replace(finding, level=findings.Level.WARNING)
    return model, (finding,)


def take_over(jobs: Sequence[node_weights.WeightsJob]) -> None:
    """Wait for a download of these models by an earlier run; remove one that has ended."""
    job = jobs[0]
    by_task = {weights.task_label(one.group, one.model): one for one in jobs}
    answer = shell.run_command(job.head, weights.list_tasks())
    mine = weights.container_name(job.group)
    for line in answer.out:
        name, state, task = [*line.split("\t"), "", ""][:3]
        if name != mine:
            continue
        if state == "running" and task in by_task:
            job.head.log("an earlier run's download is still running: waiting for it")
            try:
                _wait(by_task[task], stored.TransferProgress(0, time.monotonic()))
            except findings.Refused as refused:
                job.head.log(f"it failed: {refused}; starting over")
        shell.run_command(job.head, weights.remove_download(job.group))
    _forget(job)


def list_hub_files(
    job: node_weights.WeightsJob, have: stored.StoredModel
) -> tuple[str, dict[str, repository.File]]:
    """The commit that the head must have, and all its files, by the hub's own list.

    + have: what the head has
    """
    _refuse_without_hub(job, have)
    if wrong := hub_errors.find_unencrypted_token(
        job.endpoint, job.token(), job.head.name, job.model
    ):
        raise findings.Refused(wrong)
    return _list_repository(job, have.commit or job.revision)


def download_files(
    job: node_weights.WeightsJob,
    commit: str,
    wanted: Mapping[str, repository.File],
    have: stored.StoredModel,
) -> dict[str, repository.File]:
    """Bring what the head lacks of a commit; all its files, each checked by its hash.

    + have: what the head has of it
    """
    missing = stored.missing_files(wanted, have)
    listed = {path: replace(file, mtime_ns=0) for path, file in wanted.items()}
    listed |= {p: replace(f, mtime_ns=have.good[p].mtime_ns) for p, f in wanted.items()
              if f not in missing}  # fmt: skip
    # The list comes first: whatever ends this run, the next knows what is still to come.
    node_weights.record_weights(job, job.head, commit, listed.values(), "")
    times = _fetch(job, commit, missing, have) if missing else {}
    files = {path: replace(f, mtime_ns=times.get(path, f.mtime_ns)) for path, f in listed.items()}
    node_weights.record_weights(job, job.head, commit, files.values(), job.ref(commit))
    return files


def _refuse_without_hub(job: node_weights.WeightsJob, have: stored.StoredModel) -> None:
    wrong = sorted({**have.bad, **have.absent})
    what = (
        f"{', '.join(wrong[:3])} {'are' if wrong[1:] else 'is'} missing or damaged" if wrong else ""
    )
    if job.local and have.placeholders:
        raise findings.Refused(
            findings.error(
                f"model {job.model} holds Git LFS pointers or web pages in place of"
                f" {have.placeholders[0]!a} and {len(have.placeholders) - 1} other file(s)",
                job.head.name,
                f"cd {job.folders[job.head.name]} && git lfs install && git lfs pull; or download"
                " those files again",
                key="weights-placeholders",
            )
        )
    if job.local:
        problem = repository.find_load_problem(have.wanted)
        what = what or (problem[0] if problem else "weights or config.json are missing")
        raise findings.Refused(
            findings.error(
                f"model {job.model} is incomplete: {what}",
                job.head.name,
                f"restore the right files; or, if the files are correct as they are: "
                f"rm {job.folders[job.head.name]}/.spark-serving.json",
                key="weights-incomplete",
            )
        )
    if job.offline:
        raise findings.Refused(
            findings.error(
                f"the weights of {job.model} are incomplete, and offline = true: "
                f"{what or 'files are missing'}",
                job.head.name,
                "--data offline=false, or put them into hf_cache",
                key="weights-missing-offline",
            )
        )


def _list_repository(
    job: node_weights.WeightsJob, revision: str
) -> tuple[str, dict[str, repository.File]]:
    """The hub's own list: commit, and the files that an engine needs. Refused where they can be no
    model's, or none that an engine loads."""
    begun = stored.TransferProgress(0, time.monotonic())
    reply = _run(job, {"do": "list", "revision": revision}, begun, revision)
    try:
        commit = gate.check_commit(reply.get("commit"))
        rows = gate.check_listing(reply.get("files"))
    except gate.Unfit as wrong:
        failure = {"error": "unfit", "text": str(wrong)}
        raise findings.Refused(_failed(job, failure, revision)) from None
    files = [
        repository.File(path, count, kind, digest, "hub", digest)
        for path, count, kind, digest in rows
    ]
    if problem := repository.find_load_problem(f.path for f in files):
        what, cure = problem
        raise findings.Refused(
            findings.error(
                f"repository {job.model} {what}", job.head.name, cure, key="model-files-missing"
            )
        )
    return commit, {file.path: file for file in repository.select_files(files)}


def _fetch(
    job: node_weights.WeightsJob,
    commit: str,
    missing: tuple[repository.File, ...],
    have: stored.StoredModel,
) -> dict[str, int]:
    total = stored.total_bytes(missing)
    job.head.log(
        f"weights of {job.model} at {commit[:12]}: {printable.gigabytes(total)} to download"
    )
    files = [[f.path, f.size, f.kind, f.hash] for f in missing]
    begun = time.monotonic()
    request = {
        "do": "fetch",
        "commit": commit,
        "files": files,
        "stall": job.stall,
        "owner": list(have.owner),
    }
    times = _run(job, request, stored.TransferProgress(total, begun), commit).get("times")
    seconds = time.monotonic() - begun
    job.head.log(
        f"{job.kind}: {printable.gigabytes(total)} downloaded in {stored.format_seconds(seconds)}, "
        "every hash verified"
    )
    # The next run reads a file without a time once more.
    return {f.path: _count(times.get(f.path)) for f in missing} if isinstance(times, dict) else {}


def _run(
    job: node_weights.WeightsJob,
    request: dict[str, Any],
    progress: stored.TransferProgress,
    revision: str,
) -> dict[str, Any]:
    """The client in its container until it ends; its result."""
    shell.run_command(job.head, weights.remove_download(job.group))
    token = job.token()
    command = weights.start_download(
        *(job.group, job.model, job.caches[job.head.name], job.image, SCRIPT),
        weights.download_task(job.model, job.endpoint, token, request),
        fetch=request["do"] == "fetch",
        token=bool(token),
    )
    try:
        answer = shell.run_command(job.head, command)
        if not answer.ok:
            raise findings.Refused(
                findings.error(
                    f"the download could not be started: {answer.tail}",
                    job.head.name,
                    key="download-not-started",
                )
            )
        return _wait(job, progress, revision)
    finally:
        shell.run_command(job.head, weights.remove_download(job.group))
        if token:
            _forget(job)


def _wait(
    job: node_weights.WeightsJob, progress: stored.TransferProgress, revision: str = ""
) -> dict[str, Any]:
    """Follow the container to its end, with a line every REPORT_SECONDS."""
    limit = job.stall + GRACE if progress.total else LIST_SECONDS + job.stall
    reported = time.monotonic()
    while True:
        answer = shell.run_command(job.head, weights.watch_download(job.group))
        now = time.monotonic()
        messages: list[dict[str, Any]] = []
        for line in answer.out:
            # A message that is cut off is whole in the next answer.
            with suppress(ValueError):
                messages += [json.loads(line)] if line.startswith("{") else []
        if answer.ok and not answer.out[0].startswith(("running", "created")):
            last = messages[-1] if messages else {}
            if answer.out[0] == "exited 0" and "bytes" not in last:
                return last
            if "error" not in last:
                words = answer.out[-1] if answer.out[1:] else "without a message: is the disk full?"
                last = {"error": "other", "text": printable.tail(f"{answer.out[0]}; {words}")}
            raise findings.Refused(_failed(job, last, revision))
        for message in messages:
            progress.note(_count(message.get("bytes")), now)
        if progress.silent(now) > limit:
            raise findings.Refused(_failed(job, {"error": "still"}, revision))
        if now - reported >= REPORT_SECONDS:
            reported = now
            trouble = next((m["trouble"] for m in messages[::-1] if m.get("trouble")), "")
            job.head.log(f"{job.kind}: {progress.line(now)}{f' ({trouble})' if trouble else ''}")
        time.sleep(PAUSE)


def _failed(
    job: node_weights.WeightsJob, message: Mapping[str, Any], revision: str
) -> findings.Finding:
    return hub_errors.explain_failure(
        str(message["error"]),
        str(message.get("text", "")),
        job.head.name,
        job.model,
        revision,
        job.endpoint,
        _count(message.get("status")),
        draft=job.draft,
    )


def _count(value: object) -> int:
    """A count from a node's answer; 0 for anything else."""
    return value if type(value) is int and value >= 0 else 0


def _forget(job: node_weights.WeightsJob) -> None:
    """Remove the token, however this or an earlier download ended."""
    shell.run_command(
        job.head, weights.delete_token(weights.TOKEN_FOLDER, weights.TOKEN_FILE, job.image)
    )

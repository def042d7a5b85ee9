"""One container of monitoring, as data; its canonical JSON is its label. Docker's commands for it.

No file of a part lies on the node: what it reads is copied into its container before it starts,
and the label has its digest.
"""

import base64
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from cluster.command import Command
from cluster.node.readings import ImageReading, Rank, Shown
from cluster.printable import short_image_id
from cluster.transfer.images import pinned_reference

# Another than the ranks': what plans ranks never sees these containers.
LABEL = "spark-serving.monitoring"
# Of Docker's "local" log driver: a part's log never takes more.
LOG_OPTIONS = ("--log-driver", "local", "--log-opt", "max-size=5m", "--log-opt", "max-file=2")
STOP_SECONDS = 30
# The users of the authors' images: nobody, but for Grafana's.
USER = 65534
GRAFANA_USER = 472
# $1 is the container; a tar in base64 comes on stdin.
_COPY = 'base64 -d | docker cp - "$1:/"'
# $1 is the container, the others are paths in it; each one's content comes on stdin, in base64.
_COMPARE = """
name=$1; shift
for path; do
  IFS= read -r want || exit
  have=$(docker cp "$name:$path" - 2>/dev/null | tar -xO 2>/dev/null | base64 -w0)
  [ "$have" = "$want" ] || { echo different; exit; }
done
echo same
""".strip()


@dataclass(frozen=True, kw_only=True)
class PartSpec:
    """Everything that decides what a part runs. Two equal ones are the same container.

    + group: whose it is, as for ranks
    + kind: "prometheus", "alertmanager", "grafana", "node_exporter"
    + at: where it listens, "ADDRESS:PORT"
    + args: for the image's own entry point
    + volumes: "source:target[:options]"; a source without a slash is one of Docker's own volumes
    + memory: the most that it may take, as docker's --memory has it
    + host_pids: it sees the node's processes, and by them its mounts
    + files: path in the container → SHA-256 of its content
    + secrets: paths in the container of what nobody else may read; nothing of them is in a label
    + receiver: how it notifies somebody of alerts, "webhook" or "smtp"
    + digest: "sha256:…", what the image's tag meant at its registry when the container was created;
      "" where the reference has one, or no registry has the image
    """

    group: str
    kind: str
    name: str
    image: str
    at: str
    args: tuple[str, ...]
    memory: str
    volumes: tuple[str, ...] = ()
    host_pids: bool = False
    files: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    receiver: str = ""
    digest: str = ""

    def dump(self) -> str:
        """The canonical JSON: sorted keys, no spaces, so that equality is equality of strings; an
        empty digest is left out, as in earlier labels."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        if not self.digest:
            del fields["digest"]
        return msgspec.json.encode(fields, order="sorted").decode()

    @property
    def data(self) -> str:
        """Docker's own volume that keeps its data; "" where it has none."""
        sources = (volume.split(":")[0] for volume in self.volumes)
        return next((source for source in sources if "/" not in source), "")


@dataclass(frozen=True, kw_only=True)
class WantedPart:
    """A part as it should be on one node.

    + contents: path in the container → what it reads there
    + secrets: the same of what only its own user may read
    + url: answers with 200 once the part works, requested on its own node
    """

    part: PartSpec
    contents: Mapping[str, str]
    url: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def digests(contents: Mapping[str, str]) -> dict[str, str]:
    """Path → SHA-256 of its content."""
    return {
        path: hashlib.sha256(content.encode()).hexdigest() for path, content in contents.items()
    }


def who_listens(listens: Iterable[str], address: str, port: int | str) -> str:
    """Which of what `ss` prints as listening keeps us from ADDRESS:PORT; "" where nothing does."""
    everywhere = ("0.0.0.0", "*", "[::]")
    for each in listens:
        there, _, number = each.rpartition(":")
        if number == str(port) and (there in (address, *everywhere) or address == "0.0.0.0"):
            return each
    return ""


def read_part(label: str | None) -> PartSpec | None:
    """A label as its container carries it; None for one that is none of ours. Never an error."""
    with suppress(msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return msgspec.json.decode(label or "", type=PartSpec)
    return None


# ---- what is there, and what differs


@dataclass(frozen=True)
class MonitoringReading(Shown):
    """What a node has of monitoring.

    + containers: those with our label, and those under a wanted name
    + images: reference → the local image; None: it is not there
    + volumes: names of Docker's volumes with our label
    + files: path → SHA-256, of the files that are there
    + timer: systemd's words on the timer: "enabled active", "disabled inactive"; "" for none
    + listens: "ADDRESS:PORT" of every TCP port that something listens on, as `ss` prints it
    + no_root: why the login can't become root; "" where it can
    + secrets: container → whether the secrets in it are ours, "same" or "different"
    """

    containers: tuple[Rank, ...] = ()
    images: Mapping[str, ImageReading | None] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    timer: str = ""
    listens: tuple[str, ...] = ()
    no_root: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PartStep:
    """What happens to one part on one node.

    + there: its container now; None: there is none
    + wanted: None: it goes
    + reasons: why; () where nothing happens
    + recreate: it is created anew; else it is only started
    """

    name: str
    there: Rank | None
    wanted: WantedPart | None
    reasons: tuple[str, ...] = ()
    recreate: bool = False

    def __str__(self) -> str:
        verb = "remove" if self.wanted is None else "create" if self.recreate else "start"
        return f"{verb} {self.name}: {'; '.join(self.reasons)}"


def plan_part(wanted: WantedPart, there: MonitoringReading) -> PartStep:
    """What makes the part as it should be; its container is ours, or there is none.

    The step's part has the digest of the image that is there: of a tag, resolved by whoever pulled.
    """
    container = next((c for c in there.containers if c.name == wanted.part.name), None)
    was = read_part(container.label) if container else None
    image = there.images.get(wanted.part.image)
    digest = _resolved(wanted.part.image, image, was.digest if was else "") if image else ""
    part = replace(wanted.part, digest=digest)
    wanted = replace(wanted, part=part)
    if container is None:
        return PartStep(part.name, None, wanted, ("is not there",), recreate=True)
    drift = part_drift(container.label or "", part)
    moved = was and was.digest and digest and was.digest != digest
    if image is not None and container.image_id not in ("", image.id) and not moved:
        drift += (f"image id: {short_image_id(container.image_id)} -> {short_image_id(image.id)}",)
    if wanted.secrets and there.secrets.get(part.name) != "same":
        drift += ("its secrets differ",)
    if container.status == "created":
        # Its files may not have come: a run was cut off in between.
        drift += ("was never started",)
    if drift:
        return PartStep(part.name, container, wanted, drift, recreate=True)
    if container.running:
        return PartStep(part.name, container, wanted)
    code = f", exit code {container.exit_code}" if container.exit_code is not None else ""
    killed = ", killed for memory" if container.oom_killed else ""
    return PartStep(part.name, container, wanted, (f"is {container.status}{code}{killed}",))


def _resolved(reference: str, image: ImageReading, before: str) -> str:
    """The digest that a tag's image has at its registry: the one from before, if it still has it;
    "" for a reference by digest, and for an image that came by a copy."""
    pinned = pinned_reference(reference, image)
    if "@" in reference or not pinned:
        return ""
    name, _, digest = pinned.partition("@")
    return before if f"{name}@{before}" in image.digests else digest


def part_drift(label: str, part: PartSpec) -> tuple[str, ...]:
    """Why a label's part is not this one, field by field: "memory: '100m' -> '200m'"."""
    if label == part.dump():
        return ()
    try:
        old = dict(_flat(msgspec.json.decode(label)))
    except (msgspec.DecodeError, AttributeError, TypeError, ValueError, RecursionError):
        return ("its label is not a part of ours",)
    new = dict(_flat(msgspec.json.decode(part.dump())))
    # One that is not known is no other one: an earlier label, or an image that came by a copy.
    unknown = {"digest"} - (old.keys() & new.keys())
    return tuple(
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in sorted((old.keys() | new.keys()) - unknown)
        if old.get(name) != new.get(name)
    )


def _shown(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return "(none)"
    if name == "digest":
        return short_image_id(str(value))
    return str(value)[:12] if name.startswith("file ") else repr(value)


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields by name; each option by its own, "file PATH", "volume TARGET"."""
    for name, value in fields.items():
        if name == "files":
            yield from ((f"file {path}", digest) for path, digest in value.items())
        elif name == "args":
            yield from (str(arg).partition("=")[::2] for arg in value)
        elif name == "volumes":
            yield from ((f"volume {v.partition(':')[2]}", v) for v in value)
        else:
            yield name, value


# ---- commands


def create_part(part: PartSpec) -> Command:
    """Create the container; nothing runs yet, and its files have not come."""
    words = (
        *("docker", "create", "--pull", "never", "--name", part.name),
        *("--label", f"{LABEL}={part.dump()}", "--network", "host"),
        *(("--pid", "host") if part.host_pids else ()),
        *("--memory", part.memory, "--memory-swap", part.memory, "--pids-limit", "500"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--restart", "unless-stopped", *LOG_OPTIONS),
        *(word for volume in part.volumes for word in ("--volume", volume)),
        *(part.image, *part.args),
    )
    return Command(words, 120)


def create_data(part: PartSpec) -> Command:
    """Create the volume that keeps its data, if it is not there."""
    words = ("docker", "volume", "create", "--label", f"{LABEL}={part.group}", part.data)
    return Command(words, 60)


def copy_files(wanted: WantedPart) -> Command:
    """Copy what a part reads into its container, by stdin."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in sorted({**wanted.contents, **wanted.secrets}.items()):
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(content.encode()), 0o644
            if path in wanted.secrets:
                member.mode = 0o400
                member.uid = GRAFANA_USER if wanted.part.kind == "grafana" else USER
            archive.addfile(member, io.BytesIO(content.encode()))
    text = base64.encodebytes(packed.getvalue()).decode()
    return Command(("sh", "-c", _COPY, "sh", wanted.part.name), 60).with_stdin(text)


def compare_secrets(wanted: WantedPart) -> Command:
    """Say whether the secrets in its container are these: "same" or "different"."""
    words = ("sh", "-c", _COMPARE, "sh", wanted.part.name, *wanted.secrets)
    lines = [base64.b64encode(text.encode()).decode() + "\n" for text in wanted.secrets.values()]
    return Command(words, 60).with_stdin("".join(lines))


def start_part(name: str) -> Command:
    return Command(("docker", "start", name), 60)


def remove_part(container: Rank) -> Command:
    """Stop a part, so that it can write what it has, and remove its container; its data stay."""
    script = 'docker stop -t "$2" "$1" >/dev/null; exec docker rm --force "$1"'
    words = ("sh", "-c", script, "sh", container.id, str(STOP_SECONDS))
    return Command(words, STOP_SECONDS + 60)


def remove_data(volume: str) -> Command:
    return Command(("docker", "volume", "rm", volume), 60)


def part_log(name: str) -> Command:
    """The last lines of its log."""
    return Command(("docker", "logs", "--tail", "12", name), 20)

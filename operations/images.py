"""One image on every node of the group: the head's, from the registry or from the head."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.findings import Refused, error, refuse_errors
from cluster.node import readings
from cluster.transfer import images
from facts.containers import Image, Room, Unpacked
from operations import outcome, shell

if TYPE_CHECKING:
    from cluster.engine.diagnosis import Diagnosis

READ_SECONDS = 60


@dataclass(frozen=True)
class ImageOrder:
    """What to bring where.

    + hosts: of the group, the head first
    + records: node → the folder with its record of images (`cache_dir`); "" for none
    + address: the head's, on the fabric
    + seconds: that a pull or a copy may take
    """

    image: str
    pull: str
    hosts: Mapping[str, Host]
    records: Mapping[str, str]
    address: str
    seconds: int

    @property
    def head(self) -> Host:
        return next(iter(self.hosts.values()))


class Failed(Exception):
    """A pull or a copy that failed; why is logged already."""


@operation()
def delivered(order: ImageOrder, needed: bool) -> Generator[FunctionCommand, None, None]:
    """Every node of the group has the head's image; carried out by the head, for all.

    + needed: whether a node lacks it, or the registry must be queried
    """
    if needed:
        yield FunctionCommand(_deliver, (order,), {})
    else:
        host.noop(f"{order.image} is there")


def _deliver(state: State, host: Host, order: ImageOrder) -> bool:
    outcome.begin_step("image")
    before = shell.on_all(order.hosts.values(), lambda h: shell.run_command(h, images.list_ids()))
    try:
        head = _head(order)
        others = _images(order, *list(order.hosts.values())[1:])
        wanted = images.plan_deliveries(order.image, head, others)
        if lacking := _pull(order, {n: d for n, d in wanted.items() if d.why}):
            _copy(order, head, lacking)
        after = _images(order, *order.hosts.values()) if any(d.why for d in wanted.values()) else {}
        refuse_errors(images.find_differing(order.image, after) if after else ())
    except Refused as refused:
        for finding in refused.findings:
            outcome.log_failure(host, finding)
        return False
    except Failed:
        return False

    def record(at: Host) -> None:
        """Record what this run has brought, so that it can be removed once no group uses it."""
        if not (listed := before[at.name]).ok or not (folder := order.records[at.name]):
            return
        answer = shell.run_command(at, images.record_image(folder, order.image, listed.out))
        if not answer.ok:
            what = f"{order.image} could not be recorded as ours: {answer.tail}"
            at.log_styled(what, fg="yellow")

    shell.on_all(order.hosts.values(), record)
    return True


def _head(order: ImageOrder) -> readings.ImageReading:
    """The head's image, pulled if need be: every other node gets this one."""
    head = order.head
    before = _images(order, head)[head.name]
    if why := images.reason_to_pull(order.image, before, order.pull):
        head.log(f"pulling {order.image}: {why}")
        answer = _fetch(order, head, order.image)
        if not answer.ok:
            _report_failure(head, order, "could not be pulled", answer)
            raise Failed
    now = _images(order, head)[head.name]
    if now is None:
        raise Refused(
            error(
                f"image {order.image} is not there",
                head.name,
                "docker image ls",
                key="image-missing",
            )
        )
    if pinned := images.pinned_reference(order.image, now):
        head.log(f"{order.image} is {pinned}")
        if pinned != order.image:
            head.log(f'to pin it, set in the inventory: "image": "{pinned}"')
    return now


def _images(order: ImageOrder, *hosts: Host) -> dict[str, readings.ImageReading | None]:
    fact = Image()
    command = fact.command(order.image)
    by_node = shell.on_all(hosts, lambda at: shell.read_fact(at, fact, command, READ_SECONDS))
    refuse_errors(
        error(
            f"its images cannot be read: {reading.why}",
            name,
            "docker image ls on it",
            key="images-unreadable",
        )
        for name, reading in by_node.items()
        if reading.why
    )
    return {name: reading.value for name, reading in by_node.items()}


def _pull(order: ImageOrder, wanted: Mapping[str, images.Delivery]) -> list[Host]:
    """Have each node pull the head's image; returns the nodes that must copy it from the head."""

    def one(at: Host) -> bool | None:
        delivery = wanted[at.name]
        if not delivery.pull:
            at.log(f"{order.image}: {delivery.why}; no registry has it")
            return delivery.copy
        at.log(f"pulling {delivery.pull}: {delivery.why}")
        answer = _fetch(order, at, delivery.pull)
        if answer.ok:
            return False
        diagnosis = _diagnose(order, answer)
        if (
            answer.lost
            or not delivery.copy
            or (diagnosis and diagnosis.key in images.NOT_THE_REGISTRY)
        ):
            _report_failure(at, order, "could not be pulled", answer)
            return None
        at.log_styled(f"not from the registry: {_cause_of(diagnosis, answer)}", fg="yellow")
        return True

    answers = shell.on_all((order.hosts[name] for name in wanted), one)
    if None in answers.values():
        raise Failed
    return [order.hosts[name] for name, copied in answers.items() if copied]


def _fetch(order: ImageOrder, at: Host, source: str) -> shell.Output:
    with shell.report_every(lambda seconds: at.log(f"pulling {source}, {seconds:.0f} s")):
        return shell.run_command(at, images.pull_as(order.image, source, order.seconds))


def _copy(order: ImageOrder, head: readings.ImageReading, hosts: list[Host]) -> None:
    """From the head to these nodes, all at once, over the fabric."""
    from operations.copy import Tunnel, open_tunnel  # most runs copy nothing

    _check_space(order, head, hosts)

    def one(at: Host, opened: Tunnel) -> bool:
        folder, begun = opened.keys[at.name].folder, time.monotonic()
        at.log(f"{order.image} is being copied from {order.head.name} over {order.address}")

        def report(seconds: float) -> None:
            output = shell.run_command(at, images.copy_progress(folder))
            came = images.parse_progress(output.out[-1]) if output.out else 0
            at.log(images.describe_progress(came, head.size, seconds))

        command = images.copy_image(order.image, opened.ssh(at.name), folder, order.seconds)
        with shell.report_every(report):
            answer = shell.run_command(at, command)
        if answer.ok:
            at.log(f"{order.image} copied in {time.monotonic() - begun:.0f} s")
        else:
            _report_failure(at, order, f"could not be copied from {order.head.name}", answer)
        return answer.ok

    named = {at.name: at for at in hosts}
    with open_tunnel(order.head, named, order.address, order.seconds, image=order.image) as opened:
        answers = shell.on_all(hosts, lambda at: one(at, opened))
    if not all(answers.values()):
        raise Failed


def _check_space(order: ImageOrder, head: readings.ImageReading, hosts: list[Host]) -> None:
    """Refused where an archive of the image, or its layers, would fill a disk."""
    layers = Unpacked()
    unpacked = (
        shell.read_fact(order.head, layers, layers.command(order.image), READ_SECONDS).value or 0
    )

    def one(at: Host) -> readings.DiskReading | None:
        fact = Room()
        return shell.read_fact(at, fact, fact.command(), READ_SECONDS).value

    disks = shell.on_all((order.head, *hosts), one)
    problems = (
        images.find_full_disk(
            order.image,
            name,
            disk.path,
            images.copy_room(head, unpacked, sends=name == order.head.name),
            disk.free,
        )
        for name, disk in disks.items()
        if disk
    )
    refuse_errors(filter(None, problems))


def _diagnose(order: ImageOrder, answer: shell.Output) -> Diagnosis | None:
    from cluster.engine.diagnosis import docker_error  # a converged run does not need it

    return docker_error(answer.text, order.image)


def _cause_of(diagnosis: Diagnosis | None, answer: shell.Output) -> str:
    return diagnosis.cause if diagnosis else answer.tail or "no answer in time"


def _report_failure(at: Host, order: ImageOrder, what: str, answer: shell.Output) -> None:
    diagnosis = _diagnose(order, answer)
    key, cure = (diagnosis.key, diagnosis.cure) if diagnosis else ("", "")
    outcome.log_failure(
        at, error(f"{order.image} {what}: {_cause_of(diagnosis, answer)}", cure=cure, key=key)
    )
    if diagnosis:
        at.log(f"  {diagnosis.evidence}")

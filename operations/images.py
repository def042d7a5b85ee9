"""The image on every node."""

from __future__ import annotations

import time
from collections.abc import Generator

import gevent
from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.docker import pull
from cluster.readiness import REPORT_SECONDS
from operations import shell


@operation()
def pulled(image: str, needed: bool, seconds: int) -> Generator[FunctionCommand, None, None]:
    """Pull an image.

    + image: its reference
    + needed: whether this node lacks it, or is told to ask the registry at every run
    + seconds: that the pull may take
    """
    if needed:
        yield FunctionCommand(_pull, (image, seconds), {})
    else:
        host.noop(f"{image} is there")


def _tick(host: Host, image: str) -> None:
    begun = time.monotonic()
    while True:
        gevent.sleep(REPORT_SECONDS)
        host.log(f"pulling {image}, {time.monotonic() - begun:.0f} s")


def _pull(state: State, host: Host, image: str, seconds: int) -> bool:
    ticker = gevent.spawn(_tick, host, image)
    answer = shell.ask(host, pull(image, seconds), seconds + 30)
    ticker.kill()
    if answer.ok:
        return True
    from cluster.diagnosis import docker_error  # a converged run does without

    known = docker_error(answer.text, image)
    why = f"{known.cause} -> {known.cure}" if known else answer.text[-500:]
    host.log_styled(f"{image} could not be pulled: {why}", fg="red")
    if known:
        host.log(f"  {known.evidence}")
    return False

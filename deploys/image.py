"""What bringing the image needs of a deployment."""

from __future__ import annotations

from deploys.deployment import Deployment
from operations.images import Order


def order(made: Deployment) -> Order:
    """Which image, for which nodes, over which address of the head."""
    settings = made.settings
    return Order(
        image=settings.image,
        pull=settings.pull,
        hosts=made.serving,
        address=made.address,
        seconds=settings.pull_timeout,
    )

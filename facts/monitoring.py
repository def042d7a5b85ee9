"""What a node has of monitoring: containers, images, volumes, the GPU timer and its files."""

import re
from collections.abc import Sequence

from pyinfra.api import StringCommand

from cluster.command import Command, load_script
from cluster.monitoring.parts import LABEL, MonitoringReading
from facts import containers
from facts.fact import Fact, render

# Docker's own commands, and sudo's, on a node that is busy.
SECONDS = 60
_SCRIPT = load_script(__file__, "scripts/monitoring.sh")
_FILE = re.compile(r"([0-9a-f]{64}) (/.{1,300})")


class Parts(containers.Containers):
    """The containers of monitoring, as `Containers` reads ranks."""

    label = LABEL


class Monitoring(Fact[MonitoringReading]):
    """What a node has of monitoring; fails where Docker does not answer.

    + names: of containers, to see also those that took such a name without being ours
    + images: references to look up
    + timer, files: the systemd timer, and the files, to look at
    """

    default = staticmethod(MonitoringReading)

    def command(
        self,
        names: Sequence[str] = (),
        images: Sequence[str] = (),
        timer: str = "",
        files: Sequence[str] = (),
    ) -> StringCommand:
        words = (LABEL, Parts().selection(names), " ".join(images), timer, *files)
        return render(Command(("sh", "-c", _SCRIPT, "sh", *words), SECONDS))

    def parse(self, output: list[str]) -> MonitoringReading:
        tagged = [line.partition(" ")[::2] for line in output]
        images = {}
        for text in (text for kind, text in tagged if kind == "image"):
            reference, _, inspected = text.partition(" ")
            images[reference] = containers.Image().parse([reference, inspected])
        files = [_FILE.fullmatch(text) for kind, text in tagged if kind == "file"]
        return MonitoringReading(
            containers=tuple(Parts().parse([t for kind, t in tagged if kind == "container"])),
            images=images,
            volumes=tuple(text for kind, text in tagged if kind == "volume"),
            files={match[2]: match[1] for match in files if match},
            timer=next((text.strip()[:80] for kind, text in tagged if kind == "timer"), ""),
            no_root=next((text.strip()[:300] for kind, text in tagged if kind == "no-root"), ""),
        )

"""What a node has of a group's watchdog: its files, its unit, its python3; who listens there."""

import re
from collections.abc import Sequence

from pyinfra.api import StringCommand

from cluster.command import Command, load_script
from cluster.watchdog.units import WatchdogReading
from facts.fact import Fact, count, render

SECONDS = 30
_SCRIPT = load_script(__file__, "scripts/watchdog.sh")
_FILE = re.compile(r"([0-9a-f]{64}) +(/.{1,300})")


class WatchdogFiles(Fact[WatchdogReading]):
    """What a node has of a group's watchdog.

    + unit: its service; config: its configuration's path
    + files: all its files
    """

    default = staticmethod(WatchdogReading)

    def command(self, unit: str = "", config: str = "", files: Sequence[str] = ()) -> StringCommand:
        return render(Command(("sh", "-c", _SCRIPT, "sh", unit, config, *files), SECONDS))

    def parse(self, output: list[str]) -> WatchdogReading:
        tagged = [line.partition(" ")[::2] for line in output]
        files = [_FILE.fullmatch(text) for kind, text in tagged if kind == "file"]
        values = dict(tagged)
        return WatchdogReading(
            files={match[2]: match[1] for match in files if match},
            config=values.get("config", "").strip()[:4096],
            unit=values.get("unit", "").strip()[:80],
            python=tuple(count(word) for word in values.get("python", "").split()),
            no_root=values.get("no-root", "").strip()[:300],
            listens=tuple(text[:80] for kind, text in tagged if kind == "listens"),
        )

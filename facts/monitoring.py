"""What a node has of monitoring: containers, images, volumes, the metrics timer and its files."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from math import isfinite
from typing import Annotated

import msgspec
from msgspec import Meta
from pyinfra.api import StringCommand

from cluster.command import Command, load_script
from cluster.monitoring.parts import LABEL, MonitoringReading, read_part
from cluster.reports.watch import HISTORY, MOST_ALERTS, FiringAlert, Watch
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
            listens=tuple(text for kind, text in tagged if kind == "listens"),
            no_root=next((text.strip()[:300] for kind, text in tagged if kind == "no-root"), ""),
        )


_WATCH = load_script(__file__, "scripts/watch.sh")
# Seconds that Prometheus may take for each answer; it is on the same node.
ANSWER_SECONDS = 2
_Text = Annotated[str, Meta(max_length=2000)]


class _Alert(msgspec.Struct, rename="camel"):
    """What we read of an alert of Prometheus' API."""

    labels: dict[str, _Text]
    annotations: dict[str, _Text]
    state: _Text
    active_at: datetime


class _Series(msgspec.Struct):
    metric: dict[str, _Text]
    values: tuple[tuple[float, _Text], ...]


class _Data(msgspec.Struct):
    alerts: tuple[_Alert, ...] = ()
    result: tuple[_Series, ...] = ()


class _Answer(msgspec.Struct):
    data: _Data


class Watching(Fact[Watch | None]):
    """What watches a group, as its head answers; None: nothing does."""

    default = staticmethod(lambda: None)

    def command(self, group: str) -> StringCommand:
        words = ("sh", "-c", _WATCH, "sh", group, LABEL, str(ANSWER_SECONDS), *HISTORY.values())
        return render(Command(words, 8))

    def parse(self, output: list[str]) -> Watch | None:
        tagged = [line.partition(" ")[::2] for line in output]
        labels = {kind: text.partition(" ") for kind, text in tagged}
        prometheus, alertmanager, grafana = (
            read_part(labels[kind][2]) if kind in labels else None
            for kind in ("prometheus", "alertmanager", "grafana")
        )
        if prometheus is None:
            return None
        answer = next((text for kind, text in tagged if kind == "alerts"), "")
        alerts = msgspec.json.decode(answer, type=_Answer).data.alerts if answer else ()
        histories = [text for kind, text in tagged if kind == "history"]
        return Watch(
            address=prometheus.at,
            grafana=grafana.at if grafana else "",
            answers=bool(answer),
            receiver=alertmanager.receiver if alertmanager else "",
            alerts=tuple(_firing(alerts)),
            history=dict(zip(HISTORY, map(_history, histories), strict=False)),
        )


def _firing(alerts: Sequence[_Alert]) -> Iterator[FiringAlert]:
    """The alerts that fire, the worst first; the dead-man notice is none."""
    firing = [a for a in alerts if a.state == "firing" and a.labels.get("severity") != "info"]
    firing.sort(key=lambda a: (a.labels.get("severity") != "critical", a.active_at))
    for alert in firing[:MOST_ALERTS]:
        yield FiringAlert(
            name=alert.labels.get("alertname", ""),
            severity=alert.labels.get("severity", ""),
            node=alert.labels.get("node", ""),
            summary=alert.annotations.get("summary", ""),
            cure=alert.annotations.get("cure", ""),
            since=alert.active_at.timestamp(),
        )


def _history(answer: str) -> dict[str, tuple[float, ...]]:
    """Node, or "" for the group → its values."""
    if not answer:
        return {}
    return {
        series.metric.get("node", ""): tuple(
            value for _, text in series.values if isfinite(value := float(text))
        )
        for series in msgspec.json.decode(answer, type=_Answer).data.result
    }

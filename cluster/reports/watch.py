"""What watches a group, as `status` shows it: where Prometheus is, which alerts fire, and the last
minutes."""

from dataclasses import dataclass, field

from cluster.node.readings import Shown

MOST_ALERTS = 20
# What the last ten minutes show → its query; each series is the group's, or a node's.
HISTORY = {
    "tokens_per_second": "group:generation_tokens:rate1m",
    "memory_available": "node_memory_MemAvailable_bytes",
    "gpu_watts": "sum by (node) (spark_gpu_power_watts)",
}


@dataclass(frozen=True, kw_only=True)
class FiringAlert(Shown):
    """An alert that fires.

    + severity: "critical" or "warning"
    + node: "" for one of the whole group
    + since: Unix time, seconds
    """

    name: str
    severity: str
    summary: str
    cure: str = ""
    node: str = ""
    since: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Watch(Shown):
    """Prometheus on the head, or on a host that only monitors.

    + address: where it listens there, "127.0.0.1:9090"; "" where that host could not be read
    + host: the host that only monitors; "": the head
    + lost: why that host could not be read
    + grafana: where Grafana does; "" where there is none
    + answers: whether it did; else `alerts` and `history` are not known
    + receiver: how somebody is notified, "webhook" or "smtp"; "": nobody is
    + history: what (`HISTORY`) → node, or "" for the group → values, the latest last
    """

    address: str
    answers: bool
    host: str = ""
    lost: str = ""
    grafana: str = ""
    receiver: str = ""
    alerts: tuple[FiringAlert, ...] = ()
    history: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WatchdogStatus(Shown):
    """What a node's watchdog last wrote (docs/watchdog.md).

    + duty: "serving", "loading", "held" …; why: what is wrong, "" where nothing is
    + age: seconds since then; it writes every 5 s while it runs
    + last: what it did last: "restart" (of the group), "end", "stop", "start" (of its rank); "":
      nothing
    + last_key: what for: "group-restart", "silent-head", "memory-floor", "docker-killed"
    + last_why, last_age: why, and how many seconds ago
    + last_failed: why it could not do it; "" where it did
    """

    duty: str
    age: float
    why: str = ""
    last: str = ""
    last_key: str = ""
    last_why: str = ""
    last_age: float = 0.0
    last_failed: str = ""

"""The board of a group, as Grafana reads it: plain data, provisioned and not edited there.

Field names and values: Grafana's dashboard model, schema 39 (Grafana 11), which later versions
read. One column on a phone: Grafana itself puts panels below each other where the screen is narrow,
so panels are few, wide and high enough for a thumb.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.monitoring.rules import DEAD_MAN

# Grafana's name for the data source that the deploy provisions.
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
HEIGHT = 8
GROUP, NODE = '{group="$group"}', '{group="$group", node="$node"}'


@dataclass(frozen=True)
class Query:
    """One expression of a panel; legend: how its series are called, {{label}} is replaced."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One figure over time.

    + unit: Grafana's name of it ("s", "bytes", "percentunit", "short")
    + about: what it shows and what to look for
    + width: of 24 columns
    + least, most: ends of the axis; None: by the data
    + state: the last value as a number instead of a curve
    """

    title: str
    unit: str
    about: str
    queries: tuple[Query, ...]
    width: int = COLUMNS // 2
    least: float | None = 0
    most: float | None = None
    state: bool = False


GROUP_PANELS = (
    Panel(
        "Alerts that fire",
        "short",
        "Besides the dead-man's, which always fires. docs/alerts.md has meanings and cures.",
        (
            Query(
                f'count(ALERTS{{group="$group", alertstate="firing", alertname!="{DEAD_MAN}"}})'
                " or vector(0)",
                "alerts",
            ),
        ),
        width=6,
        state=True,
    ),
    Panel(
        "Ranks that answer",
        "short",
        "All of them must, for the group to serve.",
        (
            Query(f'sum(up{{job="sglang", {GROUP[1:-1]}}})', "answer"),
            Query(f'count(up{{job="sglang", {GROUP[1:-1]}}})', "of"),
        ),
        width=6,
        state=True,
    ),
    Panel(
        "Tokens",
        "short",
        "A second. Generated ones count as they come, a prompt's when its request ends.",
        (
            Query(f"group:generation_tokens:rate1m{GROUP}", "generated/s"),
            Query(f"group:prompt_tokens:rate1m{GROUP}", "prompt/s"),
        ),
    ),
    Panel(
        "Time to first token",
        "s",
        "By the engine's own histogram, over 5 minutes: as exact as its buckets.",
        (Query(f"group:ttft_seconds:quantile5m{GROUP}", "quantile {{quantile}}"),),
    ),
    Panel(
        "Time between tokens",
        "s",
        "ITL by the engine's own histogram, over 5 minutes: as exact as its buckets.",
        (Query(f"group:itl_seconds:quantile5m{GROUP}", "quantile {{quantile}}"),),
    ),
    Panel(
        "Requests",
        "short",
        "Those that wait get no token yet.",
        (
            Query(f"group:running_requests:sum{GROUP}", "running"),
            Query(f"group:waiting_requests:sum{GROUP}", "waiting"),
        ),
    ),
    Panel(
        "KV cache in use",
        "percentunit",
        "Near 100 % requests wait, or are taken back and computed again.",
        (Query(f"group:kv_cache_usage:max{GROUP}", "in use"),),
        most=1,
    ),
    Panel(
        "Tokens a step of speculative decoding",
        "short",
        "1: no draft token is accepted. 0: there is no speculative decoding.",
        (Query(f"group:accept_length:avg{GROUP}", "accept length"),),
    ),
    Panel(
        "Tokens per joule",
        "short",
        "Generated tokens by the power of all GPUs; nothing where a node's power is unknown.",
        (Query(f"group:tokens_per_joule:ratio1m{GROUP}", "tokens/J"),),
    ),
)
NODE_PANELS = (
    Panel(
        "Memory available",
        "bytes",
        "GPU and system share it. Near 0 the machine freezes.",
        (
            Query(f"node_memory_MemAvailable_bytes{NODE}", "available"),
            Query(f"node_memory_Cached_bytes{NODE}", "page cache"),
            Query(f"node_memory_MemTotal_bytes{NODE}", "total"),
        ),
    ),
    Panel(
        "Swap and memory pressure",
        "percentunit",
        "The share of time in which something waited for memory, and swap in use.",
        (
            Query(f"rate(node_pressure_memory_waiting_seconds_total{NODE}[1m])", "waiting"),
            Query(
                f"1 - node_memory_SwapFree_bytes{NODE} / (node_memory_SwapTotal_bytes{NODE} > 0)"
                f" or 0 * node_memory_SwapTotal_bytes{NODE}",
                "swap in use",
            ),
        ),
        most=1,
    ),
    Panel(
        "SM clock",
        "hertz",
        "Below 1 GHz while the GPU is busy, something holds it down.",
        (
            Query(f"spark_gpu_sm_clock_hertz{NODE}", "GPU {{gpu}}"),
            Query(f"spark_gpu_sm_clock_max_hertz{NODE}", "most"),
        ),
    ),
    Panel(
        "GPU utilization",
        "percentunit",
        "The share of time in which a kernel ran.",
        (Query(f"spark_gpu_utilization_ratio{NODE}", "GPU {{gpu}}"),),
        most=1,
    ),
    Panel(
        "GPU power",
        "watt",
        "Of the GPU alone, not of the machine.",
        (Query(f"spark_gpu_power_watts{NODE}", "GPU {{gpu}}"),),
    ),
    Panel(
        "Temperature",
        "celsius",
        "GPU and NVMe.",
        (
            Query(f"spark_gpu_temperature_celsius{NODE}", "GPU {{gpu}}"),
            Query(
                f"node_hwmon_temp_celsius{NODE} * on (instance, chip) group_left (chip_name)"
                f' node_hwmon_chip_names{{chip_name="nvme", {NODE[1:-1]}}}',
                "NVMe {{sensor}}",
            ),
        ),
        least=None,
    ),
    Panel(
        "Both halves of the fabric's ports",
        "Bps",
        "Received and sent. The two halves of a cabled port should carry the same.",
        (Query(f"half:fabric_bytes:rate2m{NODE}", "port {{qsfp}} half {{half}}"),),
        width=COLUMNS,
    ),
)


def boards() -> dict[str, dict[str, Any]]:
    """File name → a board: the group that is chosen at its top, then a row for each node."""
    variables = [
        _variable("group", 'label_values(up{job="node"}, group)'),
        _variable("node", 'label_values(up{job="node", group="$group"}, node)', each=True),
    ]
    board = {
        "uid": "spark-group",
        "title": "Spark group",
        "tags": ["spark"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": list(_rows()),
    }
    return {"spark-group.json": board}


def _rows() -> Iterator[dict[str, Any]]:
    top, number = 0, 0
    rows: tuple[tuple[str, str, Sequence[Panel]], ...] = (
        ("$group", "", GROUP_PANELS),
        ("$node", "node", NODE_PANELS),
    )
    for title, repeat, panels in rows:
        number += 1
        yield _row(number, title, repeat, top)
        top, left = top + 1, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                top, left = top + HEIGHT, 0
            number += 1
            place = {"h": HEIGHT, "w": panel.width, "x": left, "y": top}
            yield _panel(number, panel, place)
            left += panel.width
        top += HEIGHT


def _row(number: int, title: str, repeat: str, top: int) -> dict[str, Any]:
    """A heading; with `repeat` once for each value of that variable, with the panels below it."""
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
    again = {"repeat": repeat} if repeat else {}
    named = {"id": number, "type": "row", "title": title, "gridPos": place}
    return {**named, "collapsed": False, "panels": [], **again}


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    ends = {"min": panel.least, "max": panel.most}
    defaults: dict[str, Any] = {"unit": panel.unit}
    defaults |= {name: end for name, end in ends.items() if end is not None}
    if panel.state:
        options: dict[str, Any] = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value_and_name",
            "colorMode": "none",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
        }
    else:
        defaults["custom"] = {"fillOpacity": 10, "lineWidth": 2, "showPoints": "never"}
        options = {
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": number,
        "type": "stat" if panel.state else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": not panel.state,
                "instant": panel.state,
            }
            for i, query in enumerate(panel.queries)
        ],
    }


def _variable(name: str, query: str, *, each: bool = False) -> dict[str, Any]:
    """A choice at the top of the board; each: all values, one row each."""
    everything = {"selected": True, "text": "All", "value": "$__all"}
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "multi": each,
        "includeAll": each,
        **({"current": everything} if each else {}),
    }

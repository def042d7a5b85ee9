"""The board of a group, as Grafana reads it: plain data, provisioned and not edited there.

Field names and values: Grafana's dashboard model, schema 39 (Grafana 11), which later versions
read. One column on a phone: Grafana itself puts panels below each other where the screen is narrow,
so panels are few, wide and high enough for a thumb.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.monitoring.rules import DEAD_MAN

# Grafana's name for the data source that the deploy provisions.
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
HEIGHT = 8
GROUP, NODE = '{group="$group"}', '{group="$group", node="$node"}'
UP = 'up{job="sglang", group="$group"}'


@dataclass(frozen=True)
class BoardPanel:
    """One figure over time.

    + unit: Grafana's name of it ("s", "bytes", "percentunit", "short")
    + about: what it shows and what to look for
    + queries: how the series of each are called ({{label}} is replaced) → its expression
    + width: of 24 columns
    + least, most: ends of the axis; None: by the data
    + state: the last value as a number instead of a curve
    """

    title: str
    unit: str
    about: str
    queries: Mapping[str, str]
    width: int = COLUMNS // 2
    least: float | None = 0
    most: float | None = None
    state: bool = False


GROUP_PANELS = (
    BoardPanel(
        "Alerts that fire",
        "short",
        "Besides the dead-man's, which always fires. docs/alerts.md has meanings and cures.",
        {
            "alerts": 'count(ALERTS{group="$group", alertstate="firing", '
            f'alertname!="{DEAD_MAN}"}}) or vector(0)'
        },
        width=6,
        state=True,
    ),
    BoardPanel(
        "Ranks that answer",
        "short",
        "All of them must, for the group to serve.",
        {"answer": f"sum({UP})", "of": f"count({UP})"},
        width=6,
        state=True,
    ),
    BoardPanel(
        "Tokens",
        "short",
        "A second. Generated ones count as they come, a prompt's when its request ends.",
        {
            "generated/s": f"group:generation_tokens:rate1m{GROUP}",
            "prompt/s": f"group:prompt_tokens:rate1m{GROUP}",
        },
    ),
    BoardPanel(
        "Time to first token",
        "s",
        "By the engine's own histogram, over 5 minutes: as exact as its buckets.",
        {"quantile {{quantile}}": f"group:ttft_seconds:quantile5m{GROUP}"},
    ),
    BoardPanel(
        "Time between tokens",
        "s",
        "ITL by the engine's own histogram, over 5 minutes: as exact as its buckets.",
        {"quantile {{quantile}}": f"group:itl_seconds:quantile5m{GROUP}"},
    ),
    BoardPanel(
        "Requests",
        "short",
        "Those that wait get no token yet.",
        {
            "running": f"group:running_requests:sum{GROUP}",
            "waiting": f"group:waiting_requests:sum{GROUP}",
        },
    ),
    BoardPanel(
        "KV cache in use",
        "percentunit",
        "Near 100 % requests wait, or are taken back and computed again.",
        {"in use": f"group:kv_cache_usage:max{GROUP}"},
        most=1,
    ),
    BoardPanel(
        "Tokens a step of speculative decoding",
        "short",
        "1: no draft token is accepted. 0: there is no speculative decoding.",
        {"accept length": f"group:accept_length:avg{GROUP}"},
    ),
    BoardPanel(
        "Tokens per joule",
        "short",
        "Generated tokens by the power of all GPUs; nothing where a node's power is unknown.",
        {"tokens/J": f"group:tokens_per_joule:ratio1m{GROUP}"},
    ),
)
NODE_PANELS = (
    BoardPanel(
        "Memory available",
        "bytes",
        "GPU and system share it. Near 0 the machine freezes.",
        {
            "available": f"node_memory_MemAvailable_bytes{NODE}",
            "page cache": f"node_memory_Cached_bytes{NODE}",
            "total": f"node_memory_MemTotal_bytes{NODE}",
        },
    ),
    BoardPanel(
        "Swap and memory pressure",
        "percentunit",
        "The share of time in which something waited for memory, and swap in use.",
        {
            "waiting": f"rate(node_pressure_memory_waiting_seconds_total{NODE}[1m])",
            "swap in use": f"1 - node_memory_SwapFree_bytes{NODE}"
            f" / (node_memory_SwapTotal_bytes{NODE} > 0)"
            f" or 0 * node_memory_SwapTotal_bytes{NODE}",
        },
        most=1,
    ),
    BoardPanel(
        "SM clock",
        "hertz",
        "Below 1 GHz while the GPU is busy, something holds it down.",
        {
            "GPU {{gpu}}": f"spark_gpu_sm_clock_hertz{NODE}",
            "most": f"spark_gpu_sm_clock_max_hertz{NODE}",
        },
    ),
    BoardPanel(
        "GPU utilization",
        "percentunit",
        "The share of time in which a kernel ran.",
        {"GPU {{gpu}}": f"spark_gpu_utilization_ratio{NODE}"},
        most=1,
    ),
    BoardPanel(
        "GPU power",
        "watt",
        "Of the GPU alone, not of the machine.",
        {"GPU {{gpu}}": f"spark_gpu_power_watts{NODE}"},
    ),
    BoardPanel(
        "Temperature",
        "celsius",
        "GPU and NVMe.",
        {
            "GPU {{gpu}}": f"spark_gpu_temperature_celsius{NODE}",
            "NVMe {{sensor}}": f"node_hwmon_temp_celsius{NODE} * on (instance, chip)"
            f' group_left (chip_name) node_hwmon_chip_names{{chip_name="nvme", {NODE[1:-1]}}}',
        },
        least=None,
    ),
    BoardPanel(
        "What the watchdog ended",
        "short",
        "Times in an hour that it ended this node's rank, and why. 0 where there is none, too.",
        {
            "{{key}}": f"sum by (key) (increase(spark_watchdog_actions_total{NODE}[1h]))"
            " or on () vector(0)"
        },
    ),
    BoardPanel(
        "Both halves of the fabric's ports",
        "Bps",
        "Received and sent. The two halves of a cabled port should carry the same.",
        {"port {{qsfp}} half {{half}}": f"half:fabric_bytes:rate2m{NODE}"},
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
    rows: tuple[tuple[str, str, Sequence[BoardPanel]], ...] = (
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


def _panel(number: int, panel: BoardPanel, place: dict[str, int]) -> dict[str, Any]:
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
                "expr": expr,
                "legendFormat": legend,
                "range": not panel.state,
                "instant": panel.state,
            }
            for i, (legend, expr) in enumerate(panel.queries.items())
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

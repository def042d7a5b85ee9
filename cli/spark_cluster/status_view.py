"""A status document on a terminal, or in a pipe."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from spark_cluster.printable import all_printable

# In a pipe: wide enough that no line of a table is cut.
PIPE_COLUMNS = 200
GIB = 2**30
HEADINGS = ("rank", "node", "container", "state", "health", "up", "image", "spec", "memory", "GPU")
# Left out on a narrow terminal, in this order; --json has everything.
DISPENSABLE = ("spec", "image", "GPU", "memory", "up")
# How to show the server's load.
COUNTS = {
    "running": "{:.0f} requests running",
    "queued": "{:.0f} queued",
    "tokens_per_second": "{:.1f} tokens/s",
}
SHARES = {"kv_cache": "KV cache in use", "cache_hits": "of prompts from cache"}
COLORS = {"ready": "green", "starting": "yellow", "degraded": "red", "down": "red"}
# What the last minutes show: a key of the document's history, its latest value, and its scale.
LINES = (
    ("tokens_per_second", "{:.1f} tokens/s", 1),
    ("memory_available", "{:.1f} GiB of memory available", GIB),
    ("gpu_watts", "{:.1f} W", 1),
)
BARS = "▁▂▃▄▅▆▇█"
KINDS = {
    "previous": "kept until the new group serves",
    "stopped": "a switch was interrupted; the next deploy resumes it",
    "failed": "kept for inspection: docker logs {container}",
    "stray": "not part of this group; the next deploy removes it",
}


def console() -> Console:
    """In color on a terminal without NO_COLOR; with whole lines in a pipe."""
    shown = Console(highlight=False)
    return shown if shown.is_terminal else Console(highlight=False, width=PIPE_COLUMNS)


def status_table(status: Mapping[str, Any], *, history: bool = False) -> RenderableType:
    """The group in a line or two, one row per rank, and what is wrong.

    + history: show the last ten minutes too, where Prometheus has them
    """
    status = all_printable(status)
    state, load = status["state"], status["load"]
    color = COLORS.get(state, "yellow")
    head = [Text.assemble((status["wanted"], "bold"), "  ", (state, color), f"  {status['url']}")]
    if status["served"] and status["wanted"] not in status["served"]:
        head.append(Text(f"  serves {', '.join(status['served'])}", "red"))
    parts = [form.format(load[name]) for name, form in COUNTS.items() if load[name] is not None]
    for name, words in SHARES.items():
        if load[name] is not None:
            parts.append(f"{100 * load[name]:.0f} % {words}")
    if parts:
        head.append(Text(f"  {', '.join(parts)}"))
    if holder := status["holder"]:
        owner = holder["owner"]
        if holder["stale"]:
            age = f"{holder['age']:.0f} s"
            head.append(Text(f"  {owner}'s deploy died {age} ago without releasing its lease"))
        else:
            head.append(Text(f"  {owner} is changing the group now: {holder['command']}"))
    watch = [*_watch(status, history=history), *_watchdogs(status["ranks"])]
    return Group(*head, _Ranks(status["ranks"]), *_nccl(status["ranks"]), *watch, *_amiss(status))


@dataclass(frozen=True)
class _Ranks:
    """One row per rank. On a terminal too narrow for all columns, whole columns are left out."""

    ranks: Sequence[Mapping[str, Any]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out = set[str]()
        for name in ("", *DISPENSABLE):
            left_out.add(name)
            table = self._table(left_out)
            if console.measure(table, options=options.update(max_width=PIPE_COLUMNS)).maximum <= (
                options.max_width
            ):
                break
        yield table

    def _table(self, left_out: Container[str]) -> Table:
        columns = [i for i, name in enumerate(HEADINGS) if name not in left_out]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for i in columns:
            table.add_column(HEADINGS[i], no_wrap=True)
        for rank in self.ranks:
            cells = list(_row(rank))
            table.add_row(*(cells[i] for i in columns))
        return table


def _row(rank: Mapping[str, Any]) -> Iterator[Text]:
    yield Text(str(rank["rank"]))
    yield Text(rank["node"])
    yield Text(rank["container"] or "-")
    code = f" ({rank['exit_code']})" if rank["exit_code"] is not None else ""
    memory = ", killed for memory" if rank["oom_killed"] else ""
    again = f", restarted {rank['restarts']} x" if rank["restarts"] else ""
    state = f"{rank['state']}{code}{memory}{again}"
    yield Text(state, "green" if rank["state"] == "running" else "red")
    if rank["health"] == 200:
        yield Text("ok", "green")
    elif rank["state"] not in ("running", "unknown") or (rank["lost"] and not rank["health"]):
        yield Text("-")
    else:
        health = str(rank["health"]) if rank["health"] else "no answer"
        phase = f", {rank['phase']}" if rank["phase"] and rank["phase"] != "ready" else ""
        yield Text(f"{health}{phase}", "yellow")
    yield Text(age(rank["uptime"]))
    yield Text(rank["image"] or "-")
    yield Text(rank["spec"] or "-")
    used, total = rank["memory_used"], rank["memory_total"]
    yield Text("-" if total is None else f"{used / GIB:.1f} of {total / GIB:.1f} GiB")
    watts = rank["gpu_watts"]
    yield Text("-" if watts is None else f"{watts:.1f} W")


def _nccl(ranks: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """The NCCL that the ranks of a group over several nodes loaded."""
    running = [rank for rank in ranks if rank["state"] == "running"]
    if len(running) < 2:
        return
    versions = {rank["node"]: ", ".join(rank.get("nccl", ())) or "unknown" for rank in running}
    if len(set(versions.values())) > 1:
        yield Text(
            "NCCL       " + "; ".join(f"{node}: {version}" for node, version in versions.items())
        )
    elif "unknown" in versions.values():
        yield Text("NCCL       unknown: no rank's log names it (nccl_debug=INFO lets it)")
    else:
        yield Text(f"NCCL       {next(iter(versions.values()))}")


# A watchdog writes every 5 s.
WATCHDOG_SECONDS = 60
DONE = {
    "restart": "restarted the group",
    "end": "ended its rank",
    "stop": "stopped its rank",
    "start": "started its rank",
}


def _watch(status: Mapping[str, Any], *, history: bool) -> Iterator[Text]:
    """Where Prometheus is, the alerts that fire, and its last minutes."""
    if not (watch := status.get("watch")):
        return
    at = watch["host"] or (status["ranks"][0]["node"] if status["ranks"] else "the head")
    if watch["lost"]:
        look = "docker ps" if at.startswith("@local") else f"ssh {quote(at)} docker ps"
        yield Text(
            f"monitoring unknown: {at} could not be read: {watch['lost']} -> {look}", "yellow"
        )
        return
    address = watch["address"]
    words = [f"monitoring http://{address}"]
    if watch["grafana"]:
        words.append(f"and http://{watch['grafana']}")
    if address.startswith("127."):
        ports = [each for each in (address, watch["grafana"]) if each]
        ways = " ".join(f"-L {each.rpartition(':')[2]}:{each}" for each in ports)
        local = at.startswith("@local")
        words.append("on this machine" if local else f"on {at}: ssh {ways} {quote(at)}")
    if not watch["answers"]:
        words.append("(does not answer)")
    if not watch["receiver"]:
        words.append("(nobody is notified: alert_receiver)")
    yield Text(" ".join(words), "" if watch["answers"] else "yellow")
    for alert in watch["alerts"]:
        node = f" {alert['node']}:" if alert["node"] else ""
        cure = f" -> {alert['cure']}" if alert["cure"] else ""
        color = "red" if alert["severity"] == "critical" else "yellow"
        what = f"{node} {alert['summary']}{cure}"
        yield Text.assemble(("alert", color), f"      {alert['name']} ({alert['severity']}){what}")
    for name, form, scale in LINES if history else ():
        for node, values in watch["history"].get(name, {}).items():
            if values:
                label = form.format(values[-1] / scale)
                yield Text(f"10 min     {sparkline(values)} {label}{f', {node}' if node else ''}")


def _watchdogs(ranks: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """How the nodes' watchdogs are, and what each did last; nothing where there is none."""
    there = {rank["node"]: dog for rank in ranks if (dog := rank.get("watchdog"))}
    silent = {node: dog["age"] for node, dog in there.items() if dog["age"] > WATCHDOG_SECONDS}
    words = [
        f"{node}: silent for {silent[node]:.0f} s" if node in silent else f"{node}: {dog['duty']}"
        for node, dog in there.items()
    ]
    words += [f"{rank['node']}: none" for rank in ranks if there and rank["node"] not in there]
    if words:
        amiss = silent or len(there) < len(ranks)
        yield Text(f"watchdog   {'; '.join(words)}", "yellow" if amiss else "")
    for node, dog in there.items():
        if dog["why"] and node not in silent:
            yield Text(f"           {node}: {dog['why']}")
        if dog["last"]:
            done, failed = DONE.get(dog["last"], dog["last"]), dog.get("last_failed", "")
            if failed:
                done, failed = f"could not {dog['last']} its rank", f" ({failed})"
            ago = f"{dog['last_age'] / 60:.0f} min ago"
            yield Text(f"           {node}: {done} {ago}{failed}: {dog['last_why']}")


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, from the least to the greatest of them."""
    least, span = min(values), max(values) - min(values)
    return "".join(
        BARS[int((v - least) / span * (len(BARS) - 1))] if span else BARS[0] for v in values
    )


def _amiss(status: Mapping[str, Any]) -> Iterator[Text]:
    for sentence in status["unread"]:
        yield Text.assemble(("not read", "red"), f"  {sentence}")
    for reason in status["drift"]:
        yield Text.assemble(("drift", "yellow"), f"     {reason}")
    if status["unsure"]:
        yield Text.assemble(("drift", "yellow"), f"     not known: {status['unsure']}")
    # Whether a run is changing the group right now.
    busy = status["holder"] is not None and not status["holder"]["stale"]
    for left in status["leftovers"]:
        kind = "stopped" if left["kind"] == "previous" and not busy else left["kind"]
        why = KINDS[kind].format(container=quote(left["container"]))
        yield Text(f"left over  {left['node']}: {left['container']} ({left['state']}): {why}")
    for sentence in status.get("errors", ()):
        yield Text.assemble(("error", "red"), f"     {sentence}")
    for sentence in status.get("warnings", ()):
        yield Text.assemble(("warning", "yellow"), f"   {sentence}")


def age(seconds: float | None) -> str:
    """A duration in its two largest units: "3 d 4 h", "5 min 2 s"; "-" if nothing runs."""
    if seconds is None:
        return "-"
    left, parts = int(seconds), list[str]()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"

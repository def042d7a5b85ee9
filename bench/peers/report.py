"""The comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from peers.goals import OURS, Goal, Middle, PeerComparison
from peers.scoring import KEYS
from peers.turns import ClientTurn


def plain_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with columns as wide as needed, the first one left-aligned, the others right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    ]
    return "\n".join(["", title, text[0], "-" * len(text[0]), *text[1:]])


def accuracy_table(comparison: PeerComparison, cases: Sequence[str]) -> str:
    """Reported minus true for each figure; ours twice: from its command, and in-process."""
    rows = []
    for case in cases:
        for client in _clients(comparison.turns):
            middles = [comparison.error(client, case, key) for key in KEYS]
            if any(middles):
                rows.append([case, client, _counting(comparison, client), *map(_cell, middles)])
        exact = [comparison.stamp(case, "errors", key) for key in KEYS]
        if any(exact):
            rows.append([case, f"{OURS} *", "", *map(_cell, exact)])
            accept = (
                comparison.stamp(case, "accept_ms", "mean"),
                comparison.stamp(case, "accept_ms", "p99"),
            )
            rows.append([case, "  accept delay, mean and p99", "", *map(_cell, accept), *[""] * 4])
    title = (
        "Reported minus true, ms: median (lowest..highest). True: from the server's read of the\n"
        "request; * from the client's send, its requests matched to the server's log one by one."
    )
    return plain_table(title, ["load", "client", "tokens by", *KEYS], rows)


def stamps_table(comparison: PeerComparison, cases: Sequence[str]) -> str:
    """Our time stamps against the server's, token by token."""
    paths = (("stamp_us", "p50"), ("stamp_us", "p99"), ("lag_us", "p99"), ("shared",))
    rows = [
        [
            case,
            *(
                _cell(comparison.stamp(case, *path), "{:.4f}" if path == ("shared",) else "{:.1f}")
                for path in paths
            ),
        ]
        for case in cases
    ]
    head = ["load", "error p50, us", "error p99, us", "read lag p99, us", "share of shared times"]
    return plain_table("Our time stamps, token by token", head, rows)


def cost_table(comparison: PeerComparison, case: str) -> str:
    """CPU, memory and capacity of each client."""
    rows = []
    for client in _clients(comparison.turns):
        helped = Middle.of(comparison.help_seconds.get(client, []))
        rows.append(
            [
                client,
                _counting(comparison, client),
                _cell(comparison.middle(client, case, lambda t: t.tokens_per_cpu / 1e3)),
                _cell(comparison.middle(client, case, lambda t: t.with_parsing / 1e3)),
                _cell(
                    comparison.middle(client, "one-token answers", lambda t: t.requests_rate),
                    "{:.0f}",
                ),
                _cell(comparison.middle(client, "zero delay", lambda t: t.rate / 1e3)),
                _cell(
                    Middle.of([t.peak_rss / 1e6 for t in comparison.turns if t.client == client]),
                    "{:.0f}",
                ),
                _cell(helped, "{:.2f}"),
            ]
        )
    head = [
        "client",
        "tokens by",
        "ktok/CPU-s",
        "with parsing",
        "requests/s",
        "zero delay ktok/s",
        "peak MB",
        "--help s",
    ]
    return plain_table(f"Cost at {case}; capacity on one core", head, rows)


def ladder_table(comparison: PeerComparison) -> str:
    """Our client at rising rates."""
    rows = [
        [
            str(step["offered"]),
            f"{step['true_rate']:.0f}",
            f"{step['shared']:.4f}",
            f"{step['stamp_us']['p50']:.1f}",
            f"{step['stamp_us']['p99']:.1f}",
            f"{step['lag_us']['max'] / 1e3:.0f}",
            f"{step['cpu_seconds']:.2f}",
            f"{step['waited_seconds']:.2f}",
            f"{step['other_load']:.2f}",
        ]
        for step in comparison.ladder
    ]
    head = [
        *("offered/s", "served/s", "shared", "error p50, us", "p99, us", "read lag max, ms"),
        *("CPU s", "waited for it s", "other load"),
    ]
    return plain_table("One-token chunks at rising rates, ours", head, rows)


def fault_tables(comparison: PeerComparison) -> str:
    """Wrong figures by case and client, and then which."""
    clients = _clients(comparison.faults)
    cases = list(dict.fromkeys(turn.case for turn in comparison.faults))
    turns = {(turn.case, turn.client): turn for turn in comparison.faults}
    counts = [
        [case, *(str(len(t.wrong)) if (t := turns.get((case, c))) else "-" for c in clients)]
        for case in cases
    ]
    sums = [str(sum(len(t.wrong) for t in comparison.faults if t.client == c)) for c in clients]
    whole = plain_table(
        "Wrong figures of 6 (successes, tokens; by > 2 %: tok/s, mean TTFT, ITL, TPOT)",
        ["fault", *clients],
        [*counts, ["together", *sums]],
    )
    which = [f"  {t.client}, {t.case}: {', '.join(t.wrong)}" for t in comparison.faults if t.wrong]
    return "\n".join([whole, *which])


def noise_table(comparison: PeerComparison) -> str:
    """How many cores other processes used, and how many the host took, in each client's turns."""
    everything = [*comparison.turns, *comparison.faults]
    rows = []
    for client in _clients(everything):
        mine = [t for t in everything if t.client == client]
        other, stolen = Middle.of([t.other_load for t in mine]), Middle.of([t.stolen for t in mine])
        rows.append([client, _cell(other, "{:.2f}"), _cell(stolen, "{:.2f}")])
    return plain_table(
        "Cores that others used, and stolen ones, during the turns",
        ["client", "others", "stolen"],
        rows,
    )


def verdict_table(goals: Sequence[Goal]) -> str:
    """Each goal, and whether it is reached."""
    rows = [[g.name, g.wanted, g.measured or "not measured", g.verdict] for g in goals]
    return plain_table(f"Goals of {OURS}", ["goal", "wanted", "measured", "verdict"], rows)


def _clients(turns: Iterable[ClientTurn]) -> list[str]:
    return list(dict.fromkeys(turn.client for turn in turns))


def _counting(comparison: PeerComparison, client: str) -> str:
    """How a client knew the number of tokens in its events."""
    words = dict.fromkeys(t.reported.counting for t in comparison.turns if t.client == client)
    return "; ".join(filter(None, words))


def _cell(middle: Middle | None, form: str = "{:.2f}") -> str:
    return "-" if middle is None or middle.value != middle.value else middle.text(form)

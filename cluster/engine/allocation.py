"""What SGLang says in its log that it has allocated, beside what the memory table expects."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster import printable
from cluster.catalog.memory import GIB, MemoryTable
from cluster.engine.log import clean

MEMORY_PATTERN = r"Load weight end\.|Cache .*is allocated\.|Capture .*graph end\."
"""For `grep -E` (POSIX): selects the lines that `read_allocation` reads."""

# SGLang's "GB" are GiB. 0.5.3.post3, 0.5.11 and 0.5.23 differ in the words between; a node with
# several GPUs logs each line for each of them ("TP0]", "TP1 PP0]").
_SIZE = re.compile(r"(?<!\w)(?:mem usage=|size: )(\d{1,6}(?:\.\d{1,4})?) ?GB")
_RANK = re.compile(r"^\[[\d :-]+((?: [A-Z]{2}\d+)*)\]")
_TOKENS = re.compile(r"#tokens: (\d{1,12})\b")
_KINDS = (
    ("weights", re.compile(r"Load weight end\.")),
    ("states", re.compile(r"Mamba Cache .*is allocated\.")),
    ("KV cache", re.compile(r"Cache .*is allocated\.")),
    ("CUDA graphs", re.compile(r"Capture .*graph end\.")),
)
# More than this apart, the table is wrong about the model. Graphs take little, and the log's sizes
# have two decimals.
CLOSE, LAST_DIGIT = 0.05, 0.01 * GIB


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """One rank's, in bytes; 0: not in the log.

    + draft, draft_kv: of the draft's weights and KV cache, which come second
    + kv: of all pools: layers with a sliding window have one of their own
    + kv_tokens: of the KV cache, in the layers that keep most
    """

    weights: float = 0
    draft: float = 0
    kv: float = 0
    kv_tokens: int = 0
    draft_kv: float = 0
    states: float = 0
    graphs: float = 0


def read_allocation(lines: Sequence[str]) -> Allocation:
    """What the first GPU's lines since the last start say."""
    # Of the model, then of each draft model: their pools come after their weights.
    loaded: list[float] = []
    pools: list[list[float]] = [[], []]
    tokens, states, graphs = 0, 0.0, 0.0
    first: str | None = None
    for line in map(clean, lines):
        kind = next((name for name, pattern in _KINDS if pattern.search(line)), None)
        figures = [float(size) * GIB for size in _SIZE.findall(line)]
        if not kind or not figures:
            continue
        rank = _RANK.match(line)
        first = rank[1] if first is None and rank else first
        if rank and rank[1] != first:
            continue
        size = sum(figures)
        if kind == "weights":
            loaded.append(size)
        elif kind == "states":
            states += size
        elif kind == "CUDA graphs":
            graphs += size
        else:
            of_draft = len(loaded) > 1
            pools[of_draft].append(size)
            if not of_draft and (count := _TOKENS.search(line)):
                tokens = max(tokens, int(count[1]))
    weights, draft = (*loaded, 0, 0)[:2]
    return Allocation(
        weights=weights,
        draft=draft,
        kv=sum(pools[0]),
        kv_tokens=tokens,
        draft_kv=sum(pools[1]),
        states=states,
        graphs=graphs,
    )


def allocation_rows(allocation: Allocation, table: MemoryTable) -> Iterator[str]:
    """Each part that the log names, with what the table has for it."""

    def beside(size: float, expected: float | None) -> str:
        if not expected:
            return "computed: unknown"
        apart = size / expected - 1
        close = abs(apart) <= CLOSE or abs(size - expected) <= LAST_DIGIT
        how = "within 5 %" if close else f"{apart:+.0%}"
        return f"computed: {printable.gigabytes(expected)} ({how})"

    parts = {part.name: part for part in table.parts}
    states = [part.bytes for part in table.parts if part.name.startswith("states")]
    computed = {name: part.bytes for name, part in parts.items() if not part.reserved}
    if states and None not in states:
        computed["states"] = sum(size or 0 for size in states)
    if table.draft_token_bytes:
        computed["draft's KV cache"] = table.draft_token_bytes * allocation.kv_tokens
    for name, size in (
        ("weights", allocation.weights),
        ("draft", allocation.draft),
        ("draft's KV cache", allocation.draft_kv),
        ("states", allocation.states),
        ("CUDA graphs", allocation.graphs),
    ):
        part = parts.get(name)
        if size and part and part.reserved:
            reserve = printable.gigabytes(part.bytes or 0)
            yield f"{name} {printable.gigabytes(size)}, reserved: {reserve}"
        elif size:
            yield f"{name} {printable.gigabytes(size)}, {beside(size, computed.get(name))}"
    if allocation.kv:
        most = table.kv_tokens
        bound = "unknown" if most is None else f"at most {most:,} tokens"
        yield (
            f"KV cache {printable.gigabytes(allocation.kv)}: {allocation.kv_tokens:,} tokens, "
            f"computed: {bound}"
        )

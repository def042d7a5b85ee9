"""Measure how the project reads: names, slices, imports, circles, sizes, by one script.

    make house                                   # print the figures beside their limits
    .venv/bin/python tests/house/measure.py -v   # and every name, file and import behind them

Ends with exit code 1 where a limit in `limits.toml` is exceeded. An exception is a line there,
with its reason.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMITS = tomllib.loads((Path(__file__).parent / "limits.toml").read_text())
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    """One product file. `name` is dotted, as it is imported; `family` is where it installs."""

    path: Path
    name: str
    family: str
    text: str
    tree: ast.Module = field(repr=False)

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def package(self) -> str:
        """The folder below the family, which `limits.toml` orders: `cluster/fabric`."""
        inner = self.name.split(".")
        depth = 2 if self.family in ("spark_bench",) else 1
        return "/".join(inner[:depth]) if len(inner) > depth or self.is_package else inner[0]

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def modules(root: Path, product: Sequence[str]) -> list[Module]:
    """Every Python file of the product's folders and files below a root."""
    parsed = []
    for part in product:
        place = root / part
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            inner = path.relative_to(place.parent).with_suffix("")
            name = ".".join(inner.parts).removesuffix(".__init__")
            text = path.read_text()
            parsed.append(Module(path, name, inner.parts[0], text, ast.parse(text)))
    return parsed


def functions(tree: ast.Module) -> Iterator[Function]:
    """The module-level functions."""
    return (node for node in tree.body if isinstance(node, FUNCTIONS))


def size(function: Function) -> int:
    """Lines of a function without its decorators and its docstring."""
    body = function.body
    docstring = 0
    if ast.get_docstring(function) is not None:
        docstring = (body[0].end_lineno or 0) - body[0].lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def uses(tree: ast.Module, name: str) -> int:
    """How often a module reads a name, besides the function of that name itself."""
    own = {id(n) for f in functions(tree) if f.name == name for n in ast.walk(f)}
    return sum(
        isinstance(node, ast.Name) and node.id == name and id(node) not in own
        for node in ast.walk(tree)
    )


def used_once(module: Module) -> list[str]:
    """Private module-level functions that one place uses."""
    return [
        function.name
        for function in functions(module.tree)
        if function.name.startswith("_")
        and not function.decorator_list
        and uses(module.tree, function.name) == 1
    ]


def public_names(parsed: list[Module]) -> dict[str, dict[str, list[str]]]:
    """Kind ("class", "function") -> name -> the modules that define it."""
    names: dict[str, dict[str, list[str]]] = {"class": {}, "function": {}}
    for module in parsed:
        for node in module.tree.body:
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and not node.name.startswith("_"):
                names[kind].setdefault(node.name, []).append(module.name)
    return names


def import_lines(module: Module) -> int:
    nodes = [n for n in ast.walk(module.tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    return len({line for n in nodes for line in range(n.lineno, (n.end_lineno or n.lineno) + 1)})


def imported(module: Module, names: dict[str, Module]) -> set[str]:
    """The project's modules that a module imports when it is loaded."""
    targets = set()
    pending: list[ast.AST] = list(module.tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.name.split(".")
                parts = parts[: len(parts) - node.level + module.is_package]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                targets.add(deeper if deeper in names else base)
    return {name for name in targets if name in names} - {module.name}


def importers(parsed: list[Module], names: dict[str, Module]) -> dict[str, set[str]]:
    """Module -> who imports it, inside a function or not."""
    users: dict[str, set[str]] = defaultdict(set)
    for module in parsed:
        for node in ast.walk(module.tree):
            whole = (
                ast.Module([node], []) if isinstance(node, (ast.Import, ast.ImportFrom)) else None
            )
            if whole:
                lone = Module(module.path, module.name, module.family, "", whole)
                for name in imported(lone, names):
                    users[name].add(module.name)
    return users


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    rings: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                rings.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in graph:
        if name not in index:
            visit(name)
    return rings


def layer(name: str, order: list[list[str]]) -> int | None:
    """The floor on which a module stands: that of the longest prefix that the order names."""
    floors = {package: n for n, group in enumerate(order) for package in group}
    parts = name.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((floors[prefix] for prefix in prefixes if prefix in floors), None)


def upward(
    parsed: list[Module],
    users: dict[str, set[str]],
    orders: Mapping[str, list[list[str]]],
) -> list[str]:
    """Imports that run from a lower layer to a higher one, in an order of `limits.toml`; and
    modules of a family that has an order, which stand in none of its layers."""
    arrows = []
    for order in orders.values():
        families = {package.split(".")[0] for group in order for package in group}
        for module in parsed:
            high = layer(module.name, order)
            if high is None:
                if module.family in families and module.name != module.family:
                    arrows.append(f"{module.name}: in no layer")
                continue
            for user in users[module.name]:
                low = layer(user, order)
                if low is not None and low < high:
                    arrows.append(f"{user} -> {module.name}")
    return sorted(arrows)


def same_file_names(parsed: list[Module]) -> dict[str, list[str]]:
    """File names that several modules of one family answer to."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in parsed:
        if not module.is_package and module.path.stem != "__main__":
            places[f"{module.family}/**/{module.path.name}"].append(module.name)
    return {name: where for name, where in places.items() if len(where) > 1}


@dataclass
class Figure:
    """One row: `value` against `limit` (None: shown, not judged), `behind` what is counted."""

    name: str
    value: float
    limit: float | None
    before: str
    unit: str = ""
    behind: list[str] = field(default_factory=list)


def share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def figures(parsed: list[Module], config: Mapping[str, Any], readme: int) -> list[Figure]:
    """Everything that is measured, in the order in which it is printed.

    `config` is `limits.toml`, `readme` the number of lines of README.md.
    """

    def excepted(kind: str) -> dict[str, str]:
        exceptions: dict[str, str] = config.get("exceptions", {}).get(kind, {})
        return exceptions

    names = {m.name: m for m in parsed}
    users = importers(parsed, names)
    limits: dict[str, Any] = config["limits"]
    rows = []
    allowed = excepted("shared_names")
    for kind, places in public_names(parsed).items():
        shared = {n: w for n, w in places.items() if len(w) > 1 and n not in allowed}
        behind = [f"{n}: {', '.join(w)}" for n, w in sorted(shared.items())]
        value = share(len(shared), len(places))
        before = {"class": "15 %", "function": "19 %"}[kind]
        row = Figure(
            f"public {kind} names in several modules", value, limits["shared_names"], before
        )
        row.unit, row.behind = "%", behind
        rows.append(row)
    once = [f"{m.name}.{name}" for m in parsed for name in used_once(m)]
    total = sum(1 for m in parsed for _ in functions(m.tree))
    rows.append(
        Figure(
            "private functions used once",
            share(len(once), total),
            limits["used_once"],
            "37 %",
            "%",
            once,
        )
    )
    short = {
        f"{m.name}.{f.name}"
        for m in parsed
        for f in functions(m.tree)
        if size(f) < 5 and f"{m.name}.{f.name}" in set(once)
    }
    rows.append(Figure("… of fewer than 5 lines", len(short), None, "192", "", sorted(short)))
    small = [
        f"{m.name} ({m.lines} lines; {', '.join(users[m.name])})"
        for m in parsed
        if m.lines < 60 and len(users[m.name]) == 1 and m.name not in excepted("small_files")
    ]
    rows.append(
        Figure(
            "files < 60 lines with one importer", len(small), limits["small_files"], "45", "", small
        )
    )
    lines = sum(m.lines for m in parsed)
    imports = sum(map(import_lines, parsed))
    rows.append(
        Figure("imports' share of all lines", share(imports, lines), limits["imports"], "8 %", "%")
    )
    graph = {m.name: imported(m, names) for m in parsed}
    rings = [" <-> ".join(ring) for ring in circles(graph)]
    rows.append(Figure("import circles", len(rings), limits["circles"], "1", "", rings))
    arrows = [a for a in upward(parsed, users, config["orders"]) if a not in excepted("upward")]
    rows.append(
        Figure(
            "imports from a lower layer to a higher", len(arrows), limits["upward"], "6", "", arrows
        )
    )
    same = {n: w for n, w in same_file_names(parsed).items() if n not in excepted("file_names")}
    behind = [f"{n}: {', '.join(w)}" for n, w in sorted(same.items())]
    rows.append(
        Figure("file names of several modules", len(same), limits["file_names"], "29", "", behind)
    )
    participles = Counter(
        node.id if isinstance(node, ast.Name) else node.arg
        for m in parsed
        for node in ast.walk(m.tree)
        if (isinstance(node, ast.Name) and node.id in config["participles"])
        or (isinstance(node, ast.arg) and node.arg in config["participles"])
    )
    behind = [f"{name}: {n}" for name, n in participles.most_common()]
    rows.append(
        Figure(
            "made, told, said, asked, … as names",
            participles.total(),
            limits["participles"],
            "3,242",
            "",
            behind,
        )
    )
    rows.append(Figure("lines of README.md", readme, limits["readme"], "583"))
    rows.append(Figure("product files", len(parsed), None, "432"))
    rows.append(Figure("product lines", lines, None, "41,137"))
    return rows


def print_sizes(parsed: list[Module]) -> None:
    """Lines by package, the longest files and the longest functions."""
    packages: dict[str, list[int]] = defaultdict(list)
    for module in parsed:
        packages[module.package].append(module.lines)
    print("\npackage                    files  lines")
    for package, counts in sorted(packages.items()):
        print(f"{package:26} {len(counts):5} {sum(counts):6,}")
    print("\nlongest files")
    for module in sorted(parsed, key=lambda m: -m.lines)[:10]:
        print(f"{module.lines:5}  {module.path.relative_to(ROOT)}")
    print("\nlongest functions (without docstring)")
    longest = [
        (size(f), m, f) for m in parsed for f in ast.walk(m.tree) if isinstance(f, FUNCTIONS)
    ]
    for count, module, function in sorted(longest, key=lambda entry: -entry[0])[:10]:
        print(f"{count:5}  {module.name}.{function.name}")


def main() -> int:
    """Print it all; 1 where a limit is exceeded."""
    parsed = modules(ROOT, LIMITS["product"])
    rows = figures(parsed, LIMITS, len((ROOT / "README.md").read_text().splitlines()))
    verbose = "-v" in sys.argv[1:]
    print(f"{'':42} {'now':>9} {'limit':>7} {'at review':>10}")
    for row in rows:
        number = f"{row.value:.1f} %" if row.unit else f"{row.value:,.0f}"
        limit = "" if row.limit is None else f"{row.limit:g}"
        over = row.limit is not None and row.value > row.limit
        print(f"{row.name:42} {number:>9} {limit:>7} {row.before:>10}{'  OVER' if over else ''}")
        if verbose:
            print("".join(f"    {line}\n" for line in row.behind), end="")
    print_sizes(parsed)
    for kind, reasons in LIMITS.get("exceptions", {}).items():
        print(f"\nexceptions: {kind.replace('_', ' ')}")
        for name, reason in reasons.items():
            print(f"  {name}: {reason}")
    return int(any(row.limit is not None and row.value > row.limit for row in rows))


if __name__ == "__main__":
    sys.exit(main())

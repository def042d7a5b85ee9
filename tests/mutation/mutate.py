"""Break lines of the product one at a time, and see whether a test fails.

    make mutation                                            # 48 lines by seed 1
    .venv/bin/python tests/mutation/mutate.py --seed 2 --lines 80
    .venv/bin/python tests/mutation/mutate.py cluster/plan/plan.py:120   # mutants of this line

A mutant deletes a statement, inverts a condition, or swaps a comparison, in a copy of the project;
what only writes to the log is left alone. Each target's narrow tests run against it until one
fails. Prints a table; exits with 1 where a mutant survived that `EQUIVALENT` does not explain.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600
T = TypeVar("T")

# Subject -> its modules, and the narrow tests that hold them.
TARGETS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "plan": (["cluster/plan/*.py"], ["tests/core/plan", "tests/core/rank"]),
    "switch": (
        ["operations/switch.py", "operations/group.py"],
        [
            "tests/core/plan/test_phases.py",
            "tests/operations/test_switch_edges.py",
            "tests/operations/test_group.py",
            "tests/deploys/test_fake_deploy.py",
        ],
    ),
    "framing": (
        ["bench/spark_bench/protocol/http1.py", "operations/shell.py"],
        [
            "tests/bench/protocol/test_http1.py",
            "tests/core/rank/test_shell_words.py",
            "tests/commands/test_noisy_logins.py",
            "tests/operations/test_shell.py",
        ],
    ),
    "readiness": (
        ["cluster/engine/readiness.py"],
        ["tests/core/engine/test_readiness.py", "tests/core/engine/test_serving.py"],
    ),
    "watchdog": (
        ["cluster/watchdog/duties.py", "cluster/watchdog/messages.py", "cluster/watchdog/proof.py"],
        ["tests/core/watchdog"],
    ),
}

# Mutants that change nothing a test could see: "FILE: source line", or "FILE: the line before it ->
# source line" where that is not unique -> why.
EQUIVALENT: dict[str, str] = {
    "operations/switch.py: super().__init__(*self.findings)": "the words of a traceback, and none "
    "is shown",
    "bench/spark_bench/protocol/http1.py: if len(_sizes) < _MOST_CACHED:": "a cache: time alone",
    "bench/spark_bench/protocol/http1.py: if len(_fields) < _MOST_CACHED and len(line) <= "
    "_LONGEST_CACHED:": "a cache: time alone",
    "bench/spark_bench/protocol/http1.py: self.at, self._left = at + step, left - step -> "
    "return False": "nothing has come behind this place, so no trailer is found there",
}

SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE,
    ast.LtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip

# Calls that write to the operator's log.
LOGGED = ("log", "log_styled")
DELETED = (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break)


@dataclass(frozen=True)
class Mutant:
    """One line to break: which node of its module, in the order of `ast.walk`, and how."""

    subject: str
    path: Path
    line: int
    index: int
    change: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Outcome:
    """What the tests made of a mutant; `by`: the test that failed first."""

    mutant: Mutant
    killed: bool
    by: str


def mutants(subject: str, path: Path) -> list[Mutant]:
    """Every mutant of a module's functions."""
    text = (ROOT / path).read_text()
    lines = text.splitlines()
    nodes = list(ast.walk(ast.parse(text)))
    inside = {id(n) for f in nodes if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    inside -= {id(n) for line in filter(is_log_line, nodes) for n in ast.walk(line)}
    return [
        Mutant(subject, path, node.lineno, index, change)
        for index, node in enumerate(nodes)
        if isinstance(node, (ast.expr, ast.stmt)) and id(node) in inside
        if (change := describe(node, lines[node.lineno - 1].strip()))
    ]


def is_log_line(node: ast.AST) -> bool:
    """Whether a statement only writes to the log."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name))):
            return name in LOGGED
    return False


def describe(node: ast.AST, line: str) -> str:
    """What `mutate` does to a node, "" where this kind of node is left alone."""
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        return f"invert: {ast.unparse(node.test)}"
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return f"swap: {ast.unparse(node)}"
    if isinstance(node, ast.Expr) and isinstance(node.value, (ast.Constant, ast.Yield)):
        return ""  # a docstring
    if isinstance(node, DELETED) and "sleep(" not in line:
        return f"delete: {line}"
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant):
        return f"invert: {line}" if isinstance(node.value.value, bool) else ""
    return ""


def mutate(text: str, index: int) -> str:
    """A module with its node of this index, in the order of `ast.walk`, broken."""
    tree = ast.parse(text)
    node = list(ast.walk(tree))[index]
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Compare):
        node.ops = [SWAPPED[type(node.ops[0])]()]
    elif isinstance(node, ast.Return):
        assert isinstance(node.value, ast.Constant)
        node.value = ast.Constant(not node.value.value)
    else:
        for parent in ast.walk(tree):
            for name in ("body", "orelse", "finalbody"):
                body = getattr(parent, name, None)
                if isinstance(body, list) and node in body:
                    body[body.index(node)] = ast.Pass()
    return ast.unparse(ast.fix_missing_locations(tree))


def chosen(lines: int, seed: int, places: Sequence[str]) -> list[Mutant]:
    """`lines` mutants over all subjects alike, no two of one line; or all of the places given."""
    every = {
        subject: [
            mutant
            for pattern in patterns
            for path in sorted(ROOT.glob(pattern))
            for mutant in mutants(subject, path.relative_to(ROOT))
        ]
        for subject, (patterns, _) in TARGETS.items()
    }
    if places:
        return [m for group in every.values() for m in group if m.place in places]
    draw = random.Random(seed)
    picked: list[Mutant] = []
    for number, group in enumerate(every.values()):
        share = (lines - len(picked)) // (len(every) - number)
        by_line: dict[str, list[Mutant]] = {}
        for mutant in group:
            by_line.setdefault(mutant.place, []).append(mutant)
        places_here = draw.sample(sorted(by_line), min(share, len(by_line)))
        picked += [draw.choice(by_line[place]) for place in places_here]
    return picked


def copy_project(folder: Path) -> None:
    """The project's tracked files; its .venv is used where it is."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    archive = subprocess.run(
        ["tar", "c", "--null", "-T", "-"], cwd=ROOT, input=listed.stdout, capture_output=True
    )
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)


def run_tests(folder: Path, subject: str) -> tuple[int, str]:
    """pytest's exit code for a subject's tests in a copy, and the first test that failed."""
    paths = os.pathsep.join(str(folder / name) for name in ("bench", "cli"))
    # CI: hypothesis draws the same examples each time.
    environment = {**os.environ, "PYTHONPATH": paths, "CI": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*words, *TARGETS[subject][1]], cwd=folder, env=environment, capture_output=True,
            text=True, timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 1, f"no end within {SECONDS} s"
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    return done.returncode, failed[0].rpartition("/")[2] if failed else ""


def try_out(mutant: Mutant, folder: Path) -> Outcome:
    path = folder / mutant.path
    original = path.read_text()
    path.write_text(mutate(original, mutant.index))
    try:
        code, by = run_tests(folder, mutant.subject)
    finally:
        path.write_text(original)
    return Outcome(mutant, code != 0, by)


def row(outcome: Outcome) -> str:
    """A line of the table, in Markdown."""
    mutant = outcome.mutant
    change = mutant.change.replace("|", "\\|")
    change = change if len(change) <= 90 else f"{change[:89]}…"
    verdict = f"killed by {outcome.by}" if outcome.killed else "**survived**"
    if not outcome.killed and equivalent(mutant):
        verdict = "no difference"
    return f"| `{mutant.place}` | `{change}` | {verdict} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("places", nargs="*", metavar="FILE:LINE")
    parser.add_argument("--lines", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    picked = chosen(options.lines, options.seed, options.places)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as root:
        folders: Queue[Path] = Queue()
        for number in range(options.jobs):
            folder = Path(root) / str(number)
            folder.mkdir()
            copy_project(folder)
            folders.put(folder)

        def borrow(work: Callable[[Path], T]) -> T:
            folder = folders.get()
            try:
                return work(folder)
            finally:
                folders.put(folder)

        pool = ThreadPoolExecutor(options.jobs)
        subjects = list({m.subject: None for m in picked})
        for subject, (code, by) in zip(
            subjects,
            pool.map(lambda s: borrow(lambda folder: run_tests(folder, s)), subjects),
            strict=True,
        ):
            if code:
                print(f"{subject}: its tests fail without any mutant: {by}", file=sys.stderr)
                return 2
        print("| line | mutant | outcome |\n| --- | --- | --- |")
        for outcome in pool.map(lambda m: borrow(lambda folder: try_out(m, folder)), picked):
            print(row(outcome), flush=True)
            outcomes.append(outcome)
    alive = [o.mutant for o in outcomes if not o.killed and not equivalent(o.mutant)]
    killed = sum(o.killed for o in outcomes)
    print(f"\n{killed} of {len(outcomes)} killed, {len(alive)} survived (seed {options.seed})")
    return int(bool(alive))


def equivalent(mutant: Mutant) -> bool:
    lines = [line.strip() for line in (ROOT / mutant.path).read_text().splitlines()]
    before, source = lines[mutant.line - 2], lines[mutant.line - 1]
    return bool(
        {f"{mutant.path}: {source}", f"{mutant.path}: {before} -> {source}"} & {*EQUIVALENT}
    )


if __name__ == "__main__":
    sys.exit(main())

"""Every sentence of the product's own source: findings, cures, errors, plans, notes, headings.

What stands in TOML (symptoms, catalog, pairs) is text already and reviewed where it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden import assert_golden

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "deploy": [
        "deploy.py",
        "config.py",
        "transport.py",
        "deploys",
        "control",
        "operations",
        "facts",
    ],
    "cluster": ["cluster"],
    "spark-cluster": ["cli/spark_cluster"],
    "spark-bench": ["bench/spark_bench"],
}


def sentences(tree: ast.Module) -> Iterator[str]:
    """Strings of three words or more that are no docstring; what is filled in stands in braces."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {id(p) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for p in ast.walk(n)}
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
                for part in node.values
                if isinstance(part, (ast.Constant, ast.FormattedValue))
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in inner:
                continue
            text = node.value
        else:
            continue
        words = [word for word in text.split() if word.strip("-:.,()'\"{}").isalpha()]
        if len(words) >= 3:
            yield text


@pytest.mark.parametrize("program", PROGRAMS)
def test_messages_match_the_golden_file(program: str) -> None:
    places = [ROOT / place for place in PROGRAMS[program]]
    files = [f for p in places for f in ([p] if p.is_file() else p.rglob("*.py"))]
    texts = {text for file in files for text in sentences(ast.parse(file.read_text()))}
    assert len(texts) > 10
    assert_golden(f"messages-{program}", "\n".join(sorted(texts)))

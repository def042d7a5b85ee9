"""No decision reads the words of a finding: they are for people, its key is for programs."""

import ast
from collections.abc import Iterator

import pytest
from measure import LIMITS, ROOT, modules

# Module -> why it looks into the words all the same.
RENDERING = {
    "spark_bench.suite.deploy": "leaves out the node's name where the sentence begins with it",
}
SEARCHES = {"search", "match", "fullmatch", "findall", "finditer", "split", "sub"}


def inspected(tree: ast.Module) -> Iterator[int]:
    """The lines in which `X.what` is compared, searched, or asked for what it holds."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others):
                looked_at = [left, *others]
            case ast.Attribute(value=value):
                looked_at = [value]
            case ast.Subscript(value=value):
                looked_at = [value]
            case ast.Call(func=ast.Attribute(attr=name), args=args) if name in SEARCHES:
                looked_at = args
            case _:
                continue
        for part in looked_at:
            if isinstance(part, ast.Attribute) and part.attr == "what":
                yield part.lineno


def test_no_decision_reads_the_words_of_a_finding() -> None:
    lines = {m.name: list(inspected(m.tree)) for m in modules(ROOT, LIMITS["product"])}
    assert {name for name, numbers in lines.items() if numbers} == set(RENDERING)


@pytest.mark.parametrize(
    "code",
    [
        '"Docker" in finding.what',
        'finding.what == "no node"',
        'finding.what.startswith("no")',
        "pattern.search(finding.what)",
        "finding.what[:3]",
    ],
)
def test_each_way_to_inspect_findings_is_detected(code: str) -> None:
    assert list(inspected(ast.parse(code))) == [1]


def test_showing_findings_is_not_a_decision() -> None:
    assert not list(inspected(ast.parse('print(f"{finding.what}", finding.what, str(finding))')))

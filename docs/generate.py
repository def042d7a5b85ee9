"""Write the pages that are generated: settings, models, profiles, troubleshooting.

    make docs

Each page has one source, which is named at its top; a test compares the pages with their sources.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.catalog.fit import fit
from cluster.catalog.models import Model, catalog
from cluster.findings import Level
from cluster.settings.parse import allowed_values
from cluster.settings.schema import NAMES, PER_NODE, SECTIONS, Settings, descriptions

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SPARK_BYTES = 131_334_144 * 1024
"""MemTotal of a DGX Spark, as its owners' /proc/meminfo shows it."""
PROFILES = ROOT / "bench/spark_bench/load/profiles.toml"
SYMPTOMS = ROOT / "cluster/engine/symptoms.toml"
SUBJECTS = {
    "cluster/settings": "Settings and inventory",
    "cluster/catalog": "Models",
    "cluster/fabric": "The fabric",
    "cluster/checks": "Nodes",
    "cluster/node": "Nodes",
    "cluster/engine": "SGLang",
    "cluster/transfer": "Images and weights",
    "cluster": "Deploying",
    "control": "Deploying",
    "operations": "Deploying",
}
"""Folders whose findings are listed, the more special first, and the heading for them."""
SETTINGS_INTRO = """\
Set them in an inventory, or for one run with `--data NAME=VALUE`, which overrides it. `auto` is
decided by the model, by SGLang's version in the image, or by the number of nodes.

These may differ between nodes: {per_node}.
All others must be the same on every node.
"""
MODELS_INTRO = """\
`--data model=` takes the number, the alias or the id. An `org/name` that is not listed works too;
whether it fits is then not checked. A model fits a Spark if its weights, divided over the nodes,
leave room for a KV cache in its memory fraction of 121.6 GiB, which is what CUDA sees of a Spark's
131,334,144 kB. This is arithmetic: nothing here was measured on a Spark by us. For a gated model,
accept its license on the hub, and provide a [token](secrets.md).
"""
PROFILES_INTRO = """\
`spark-bench run PROFILE` sends one of these loads. `-n -i -o -r -c` change single fields, and
`--profiles FILE` adds profiles of your own, in the form of
[profiles.toml](../bench/spark_bench/load/profiles.toml).
"""
TROUBLESHOOTING_INTRO = """\
Run `spark-cluster doctor`; before anything is deployed, `spark-cluster check`. Every finding is one
line: what, where, `->` cure. These tables list them all, for searching. `…` stands for what differs
from case to case.

## What a log means

The deploy and `spark-cluster doctor` look for these lines in the logs of ranks, and in what Docker
reports.
"""


def main() -> None:
    for name, text in pages().items():
        (DOCS / name).write_text(text)


def pages() -> dict[str, str]:
    """Every generated page: its file's name and its text."""
    return {
        "settings.md": settings_page(),
        "models.md": models_page(),
        "profiles.md": profiles_page(),
        "troubleshooting.md": troubleshooting_page(),
    }


def settings_page() -> str:
    names = ", ".join(f"`{name}`" for name in PER_NODE)
    lines = _page_top(
        "Settings", "cluster/settings/schema.py", SETTINGS_INTRO.format(per_node=names)
    )
    starts = {first: heading for heading, first in SECTIONS.items()}
    meaning, defaults = descriptions(), Settings()
    for name in NAMES:
        if name in starts:
            lines += ["", f"## {starts[name]}", ""]
            lines += _table_head("name", "default", "value", "meaning")
        default = _default(getattr(defaults, name))
        lines.append(_row(f"`{name}`", default, _prose(allowed_values(name)), meaning[name]))
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    """A default as `--data` takes it; nothing where it is empty."""
    if value in ("", (), {}):
        return ""
    if isinstance(value, tuple):
        value = " ".join(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def models_page() -> str:
    lines = _page_top("Models", "cluster/catalog/models.toml", MODELS_INTRO)
    lines.append("")
    numbered = [model for model in catalog() if model.number is not None]
    heads = ("#", "alias", "id", "weights", "memory fraction", "context", "1 Spark", "2 Sparks")
    lines += _table_head(*heads, "gated", "license")
    for model in numbered:
        lines.append(
            _row(
                str(model.number),
                f"`{model.alias}`",
                model.id,
                f"{(model.weight_bytes or 0) / 1e9:.1f} GB",
                f"{model.mem_fraction:.2f}",
                f"{model.max_context:,}",
                _fits(model, nodes=1),
                _fits(model, nodes=2),
                "yes" if model.gated else "",
                model.license,
            )
        )
    lines += ["", "## Notes", ""]
    lines += [f"- `{model.alias}`: {model.notes}" for model in catalog() if model.notes]
    return "\n".join(lines) + "\n"


def _fits(model: Model, nodes: int) -> str:
    assert model.mem_fraction is not None
    findings = fit(model, SPARK_BYTES, nodes=nodes, tp=nodes, pp=1, mem_fraction=model.mem_fraction)
    return "no" if any(finding.level is Level.ERROR for finding in findings) else "yes"


def profiles_page() -> str:
    lines = [
        *_page_top("Profiles", "bench/spark_bench/load/profiles.toml", PROFILES_INTRO),
        "",
        *_table_head("profile", "prompts", "input", "output", "requests/s", "in flight", "use"),
    ]
    for name, profile in tomllib.loads(PROFILES.read_text()).items():
        sizes = (profile["num_prompts"], profile["input_len"], profile["output_len"])
        limits = (profile.get("request_rate", ""), profile.get("concurrency", ""))
        lines.append(_row(f"`{name}`", *map(str, (*sizes, *limits)), profile["use"]))
    return "\n".join(lines) + "\n"


def troubleshooting_page() -> str:
    source = "cluster/engine/symptoms.toml and the findings in the code"
    lines = _page_top("Troubleshooting", source, TROUBLESHOOTING_INTRO)
    for heading, entries in _symptom_sections().items():
        lines += ["", f"### {heading}", "", *_table_head("the log says", "cause", "cure")]
        for entry in entries:
            example = _shortened(entry.get("examples", entry["lines"])[0])
            cells = (_prose(_filled(entry[field])) for field in ("cause", "cure"))
            lines.append(_row(_code(example), *cells))
    lines += ["", "## Errors and warnings"]
    for heading, findings in _finding_sections().items():
        lines += ["", f"### {heading}", "", *_table_head("finding", "cure")]
        lines += [_row(_code(what), _prose(cure)) for what, cure in findings.items()]
    return "\n".join(lines) + "\n"


def _symptom_sections() -> dict[str, list[Mapping[str, Any]]]:
    """The entries of symptoms.toml by the heading above them (`# ---- NCCL ----`)."""
    text = SYMPTOMS.read_text()
    table = tomllib.loads(text)
    entries = {entry["key"]: entry for kind in ("engine", "docker") for entry in table[kind]}
    sections: dict[str, list[Mapping[str, Any]]] = {}
    heading = ""
    for line in text.splitlines():
        if found := re.fullmatch(r"# -+ (.*?) -+", line):
            heading = found[1]
        elif found := re.fullmatch(r'key = "(.*)"', line):
            sections.setdefault(heading[:1].upper() + heading[1:], []).append(entries[found[1]])
    return sections


def _filled(template: str) -> str:
    """A cause or a cure without its placeholders."""
    return re.sub(r"(?<!\{)\{\w+\}(?!\})", "…", template).replace("{{", "{").replace("}}", "}")


def _shortened(line: str) -> str:
    """The part of an example that tells: without time stamp, host and thread."""
    line = re.sub(r"^(\[[^\]]*\] ?)?([\w-]+:\d+:\d+ \[\d+\] )?([\w/]+\.cc:\d+ )?", "", line)
    return line if len(line) <= 120 else f"{line[:119]}…"


def _finding_sections() -> dict[str, dict[str, str]]:
    """What → cure of every finding that the code can make, by subject."""
    sections: dict[str, dict[str, str]] = {subject: {} for subject in SUBJECTS.values()}
    visited: set[Path] = set()
    for folder, subject in SUBJECTS.items():
        for path in sorted(set((ROOT / folder).rglob("*.py")) - visited):
            visited.add(path)
            sections[subject].update(_findings(ast.parse(path.read_text())))
    return sections


def _findings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(what, cure) of every call of `error` and `warning` whose text is written in the module."""
    constants = _assigned(tree.body)
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("error", "warning"):
                before = [n for n in ast.walk(function) if getattr(n, "lineno", 0) < call.lineno]
                names = constants | _assigned(before)
                arguments = dict(enumerate(call.args)) | {k.arg: k.value for k in call.keywords}
                cure = arguments.get("cure", arguments.get(2))
                texts = _text(arguments[0], names), _text(cure, names) if cure else ""
                if all(re.search(r"\w{2}", text) for text in texts):
                    yield texts


def _assigned(nodes: Sequence[ast.AST]) -> dict[str, ast.expr]:
    """Name → what is assigned to it last, where one name is assigned one value."""
    found: dict[str, ast.expr] = {}
    assignments = [n for n in nodes if isinstance(n, ast.Assign)]
    for node in sorted(assignments, key=lambda n: n.lineno):
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        found |= {name.id: text for name, text in pairs if isinstance(name, ast.Name)}
    return found


def _text(node: ast.expr, names: Mapping[str, ast.expr]) -> str:
    """A string expression as text, "…" for each part that is known only when it runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return re.sub("…+", "…", "".join(_text(part, names) for part in node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, names) + _text(node.right, names)
    if isinstance(node, ast.IfExp):
        return _text(node.body, names)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
        return _text(node.value, names)
    if isinstance(node, ast.Name) and node.id in names:
        shorter = {name: value for name, value in names.items() if name != node.id}
        return _text(names[node.id], shorter)
    return "…"


def _page_top(title: str, source: str, intro: str) -> list[str]:
    note = f"<!-- Generated by `make docs` from {source}: edit that. -->"
    return [f"# {title}", "", note, "", *intro.splitlines()]


def _table_head(*names: str) -> list[str]:
    return [_row(*names), _row(*["---"] * len(names))]


def _row(*cells: str) -> str:
    return re.sub(r"\|  (?=\|)", "| ", f"| {' | '.join(cells)} |")


def _code(text: str) -> str:
    """A code span in a table's cell."""
    marks = "``" if "`" in text else "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{marks}{pad}{text}{pad}{marks}".replace("|", r"\|").replace("\n", " ")


def _prose(text: str) -> str:
    return text.replace("|", r"\|").replace("<", r"\<").replace("\n", " ")


if __name__ == "__main__":
    main()

"""Hostile words go through every output that people see; none may let anything of them act.

What runs commands end to end against such nodes and servers is in tests/deploys and tests/bench.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cluster_documents
import msgspec
import pytest
import suite_samples
from click.testing import CliRunner
from printable_words import HOSTILE
from result_samples import a_result
from rich.console import Console
from spark_bench.compare import compare_export, compare_tables
from spark_bench.compare.comparison import compare_runs
from spark_bench.display.bar_process import draw_messages
from spark_bench.display.progress import Plain
from spark_bench.display.tables import result_tables
from spark_bench.display.terminal import Terminal, print_all
from spark_bench.history.entry import entry_of
from spark_bench.history.history_tables import history_table, write_csv
from spark_bench.protocol.error_text import from_body
from spark_bench.report.gather import gather_runs
from spark_bench.report.page import build_page, render_html
from spark_bench.results.codec import encode_result
from spark_bench.results.schema import Result
from spark_bench.results.suite_results import SuiteLoad, SuiteResults
from spark_bench.suite.child import SuiteProgress
from spark_bench.suite.suite_markdown import render_markdown
from spark_bench.suite.suite_tables import render_summary, rows_csv
from spark_cluster import logs, status
from spark_cluster.commands import ClusterError
from spark_cluster.main import main
from spark_cluster.project import Project
from spark_cluster.status_view import status_table

from cluster.findings import error
from cluster.printable import printable_record

# Formulas, Markdown, markup of Rich and of HTML, a shell's words; with every control there is.
BAD = f"=1+1|`x`[/no][bold]<img src=x onerror=alert(1)>';$(touch x){HOSTILE}"


def hostile(value: Any) -> Any:
    """A document in which every text ends in BAD."""
    if isinstance(value, str):
        return value + BAD
    if isinstance(value, dict):
        return {name: hostile(each) for name, each in value.items()}
    return [hostile(each) for each in value] if isinstance(value, list) else value


def hostile_result() -> Result:
    """A result in which every text that its type leaves free is BAD."""

    def changed(value: Any) -> Iterator[Any]:
        """The same with one more text changed, for each text."""
        if isinstance(value, str):
            yield BAD
        elif isinstance(value, dict):
            for name, each in value.items():
                yield from ({**value, name: other} for other in changed(each))
        elif isinstance(value, list):
            for at, each in enumerate(value):
                yield from ([*value[:at], other, *value[at + 1 :]] for other in changed(each))

    whole = json.loads(encode_result(a_result()))
    count = len(list(changed(whole)))
    for nth in range(count):
        other = list(changed(whole))[nth]
        try:
            msgspec.convert(other, Result)
        except msgspec.ValidationError:
            continue
        whole = other
    return msgspec.convert({**whole, "id": a_result().id}, Result)


@pytest.fixture(scope="module")
def result() -> Result:
    return hostile_result()


@pytest.fixture
def file(result: Result, tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_bytes(encode_result(result))
    return path


def checked(text: str) -> str:
    """The text, which is printable line by line."""
    bad = [line for line in text.split("\n") if not line.isprintable()]
    assert not bad
    return text


def drawn(things: Any, console: Console | None = None) -> str:
    stream = io.StringIO()
    (console or Console(file=stream, width=200)).print(things)
    return stream.getvalue()


# ---- spark-cluster


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command whose questions to the project all get this document; its output."""

    def run(document: Any, *words: str) -> str:
        def ask(*_: Any, **__: Any) -> Any:
            if isinstance(document, Exception):
                raise document
            return document

        monkeypatch.setattr(Project, "fetch", ask)
        done = CliRunner().invoke(main, [*words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.output

    return run


@pytest.mark.parametrize("command", ["status", "doctor", "models", "logs"])
def test_an_error_of_any_command(run_cli: Callable[..., str], command: str) -> None:
    assert "[/no]" in checked(run_cli(ClusterError(BAD), command))


def test_status(run_cli: Callable[..., str]) -> None:
    report = hostile(cluster_documents.TOLD) | {"ok": False, "warnings": [BAD], "unread": [BAD]}
    report |= {"drift": [BAD], "unsure": BAD, "served": [BAD]}
    report["holder"] = {"owner": BAD, "command": BAD, "age": 1.0, "stale": False}
    report["leftovers"] = [{"node": BAD, "container": BAD, "state": BAD, "kind": "failed"}]
    assert checked(run_cli(report, "status")).count("[/no]") > 10
    assert json.loads(run_cli(report, "status", "--json")) == report
    assert "[/no]" in checked(drawn(status_table(report)))


def test_status_watches_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ClusterError(BAD)

    monkeypatch.setattr(status, "fetch_status", fails)
    assert "[/no]" in checked(drawn(status.draw_status(None, {})))  # type: ignore[arg-type]


def test_doctor(run_cli: Callable[..., str]) -> None:
    ailment = {
        "level": "error",
        "key": "x",
        "cause": BAD,
        "where": BAD,
        "evidence": BAD,
        "cure": BAD,
    }
    report = {"ok": False, "state": BAD, "ailments": [ailment], "looked": [BAD]}
    assert checked(run_cli(report, "doctor")).count("[/no][bold]") == 6
    assert json.loads(run_cli(report, "doctor", "--json")) == report


def test_models(run_cli: Callable[..., str]) -> None:
    report = cluster_documents.document(runs=BAD, notes=[BAD], model=BAD)
    report["listing"]["nodes"] = [{"name": BAD}]
    report["present"] = {BAD: {BAD: cluster_documents.stock(1, complete=False)}}
    assert "[/no]" in checked(run_cli(report, "models"))


def test_init(run_cli: Callable[..., str], tmp_path: Path) -> None:
    node = hostile(cluster_documents.probed("spark-1")) | {"lost": ""}
    finding = {"level": "warning", "what": BAD, "where": BAD, "cure": BAD}
    listing = {
        "nodes": [node],
        "findings": [finding],
        "model": "openai/gpt-oss-120b",
        "variant": "spark",
    }
    words = ("init", "--head", "spark-1", "-o", str(tmp_path / "mine.py"), "-y")
    assert checked(run_cli(listing, *words)).count("[/no]") > 6
    silent = {"nodes": [node | {"lost": BAD}], "findings": []}
    assert "[/no]" in checked(run_cli(silent, *words, "--force"))


def test_use(run_cli: Callable[..., str], tmp_path: Path) -> None:
    inventory = tmp_path / "mine.py"
    inventory.write_text('head = (["spark-1"], {"model": "qwen7b"})\n')
    verdicts = {"verdicts": [{"errors": [BAD], "weight_bytes": 1, "nodes": 1}]}
    assert "[/no]" in checked(run_cli(verdicts, "use", "qwen14b", "-i", str(inventory)))
    fine = {"verdicts": [{"errors": [], "weight_bytes": 1, "nodes": 1}], "model": BAD}
    assert "[/no]" in checked(run_cli(fine, "use", "qwen14b", "-i", str(inventory)))


def test_logs(capsys: pytest.CaptureFixture[str]) -> None:
    assert "[/no]" in checked(logs.plain(f"{BAD}\n"))
    logs.print_note(BAD)
    assert "[/no]" in checked(capsys.readouterr().err)


# ---- pyinfra's own lines, and ours through it


def test_pyinfra() -> None:
    """Every record of its logger, a refusal of several lines too; `config.py` sets it up."""
    finding = error(BAD, BAD, BAD, key="bad")
    assert checked(str(finding)).count("\n") == 0
    record = logging.LogRecord("pyinfra", 20, "", 0, f"refused:\n    {BAD} %s", (BAD,), None)
    assert printable_record(record)
    # What pyinfra colors its lines with stays.
    assert "[/no]" in checked(re.sub(r"\x1b\[(0|31)m", "", record.getMessage()))


# ---- spark-bench


def printed(things: Any) -> str:
    stream = io.StringIO()
    print_all(things, stream)
    return stream.getvalue()


def test_a_servers_error_text_is_escaped() -> None:
    for body in (json.dumps({"error": {"message": BAD}}), f"<title>{BAD}</title>", BAD):
        assert "1+1" in checked(from_body(body.encode()))


def test_a_result(result: Result) -> None:
    assert checked(printed(result_tables(result))).count("[/no]") > 3


def test_progress() -> None:
    stream = io.StringIO()
    Plain(stream).say(BAD)
    SuiteProgress(stream).step(BAD)
    screen = Terminal(file=stream, force_terminal=False)
    draw_messages([json.dumps({"step": BAD}).encode(), json.dumps({"say": BAD}).encode()], screen)
    assert checked(stream.getvalue()).count("[/no]") >= 3


def test_a_history(result: Result, file: Path) -> None:
    entry = entry_of(result, file)
    assert "[/no]" in checked(printed([history_table([entry])]))
    stream = io.StringIO()
    write_csv([entry], stream)
    cells_hold_no_formula(checked(stream.getvalue()))


def test_a_comparison(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(
        encode_result(msgspec.structs.replace(a_result(), id=f"{a_result().id[:-4]}ffff"))
    )
    comparison = compare_runs([str(other), str(file)], "all", None, anyway=True)
    assert "[/no]" in checked(printed(compare_tables.comparison_tables(comparison)))
    cells_hold_no_formula(checked(compare_export.comparison_csv(comparison)))
    markdown = checked(compare_export.comparison_markdown(comparison))
    assert "<img" not in markdown
    assert "\\[/no\\]" in markdown
    assert json.loads(checked(compare_export.comparison_json(comparison)))["runs"][1][
        "name"
    ] == str(file)


def test_all_models(result: Result, tmp_path: Path) -> None:
    row = suite_samples.a_row(BAD, 10.0, 20.0, variant=BAD, diagnosis=BAD, image=BAD, file="r.json")
    failed = suite_samples.a_row(f"x{BAD}", None, None, diagnosis=BAD)
    load = SuiteLoad(profile="quick", num_prompts=1, input_len=1, output_len=1)
    rows = SuiteResults(timestamp="now", config=load, total_time_seconds=1.0, models_tested=2,
                   results=(row, failed))  # fmt: skip
    (tmp_path / "r.json").write_bytes(encode_result(result))
    cells_hold_no_formula(checked(rows_csv(rows.results)))
    assert "[/no]" in checked(render_summary(rows))
    table = checked(render_markdown(rows, tmp_path))
    assert "<img" not in table
    widths = {line.replace("\\|", "").count("|") for line in table.split("\n") if "=1" in line}
    assert widths <= {7, 9}


def test_a_report(file: Path) -> None:
    text = checked(
        render_html(build_page(gather_runs([str(file)]), BAD, datetime.now(UTC))).decode()
    )
    assert "[/no]" in text
    tags = Tags()
    tags.feed(text)
    assert not tags.names & {"script", "img", "iframe", "object"}
    assert not [name for name in tags.attributes if name.startswith("on")]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [name for name, _ in attrs]


def cells_hold_no_formula(text: str) -> None:
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert cells
    for cell in cells:
        try:
            float(cell)
        except ValueError:
            assert not cell.lstrip().startswith(("=", "+", "-", "@"))

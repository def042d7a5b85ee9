"""spark-cluster models: the table, from a document as the project prints it."""

from __future__ import annotations

import json
import re
from typing import Any

import click
import pytest
from click.testing import CliRunner
from cluster_documents import QWEN7B, QWEN72B, document, stock
from spark_cluster import models
from spark_cluster.commands import ClusterError
from spark_cluster.main import main
from spark_cluster.printable import table
from spark_cluster.project import Project


def row(document: dict[str, Any], model: str) -> list[str]:
    (match,) = (row for row in models.model_rows(document) if row[10] == model)
    return [click.unstyle(cell) for cell in match]


def test_a_models_line() -> None:
    assert row(document(), QWEN72B) == [
        *("*", "6", "qwen72b", "145.4 GB", "BF16", "0.85", "2,4,8", "", "", "reported"),
        *(QWEN72B, "spark, release"),
    ]
    assert row(document(), "meta-llama/Llama-3.1-8B-Instruct")[7] == "yes"


def test_the_default_variant_is_first_and_its_evidence_shown() -> None:
    cells = row(document(), "RadixArk/Qwen3.8-27B-NVFP4")
    assert cells[9] == "verified upstream"
    assert cells[11] == "eagle, none, dspark, dflash2, high-throughput"


def test_a_model_without_a_default_variant_says_that_one_must_be_chosen() -> None:
    cells = row(document(), "deepseek-ai/DeepSeek-V4.1-Flash")
    assert (cells[3], cells[6], cells[9], cells[11]) == ("unknown", "4", "", "choose reported")


def test_no_spark_serves_the_embedded_model() -> None:
    assert row(document(), "HuggingFaceTB/SmolLM2-135M-Instruct")[5:7] == ["", ""]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 400])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_left_out(columns: int) -> None:
    rows = models.model_rows(document(model="org/name"))
    text = click.unstyle(models.models_table(rows, columns))
    widest = max(len(word) for word in text.split())
    indented = widest + len(models.INDENT)
    assert all(len(line) <= max(columns, indented) for line in text.splitlines())
    cells = click.unstyle(" ".join(cell for cells in rows for cell in cells))
    assert not {*re.split("[ ,;\n]+", cells)} - {*re.split("[ ,;\n]+", text)}


def test_on_a_wide_terminal_each_model_has_one_line() -> None:
    rows = models.model_rows(document())
    assert len(models.models_table(rows, 400).splitlines()) == len(rows) + 1


def test_the_serving_model_is_the_ranks_own() -> None:
    report = document(runs=QWEN7B)
    assert (row(report, QWEN7B)[0], row(report, QWEN72B)[0]) == (">", "*")
    assert "a deploy would switch" in models.legend(report["listing"])
    same = document(runs=QWEN72B)
    assert row(same, QWEN72B)[0] == ">*"
    assert "switch" not in models.legend(same["listing"])


def test_a_model_outside_the_catalogue_has_a_line_of_its_own() -> None:
    report = document(model="org/name")
    cells = row(report, "org/name")
    assert cells == ["*", "", "", "unknown", "unknown", *[""] * 5, "org/name", ""]
    report["present"] = {"spark-1": {"org/name": stock(2 * 10**9)}}
    assert row(report, "org/name")[3] == "2.0 GB"
    report["present"] = {"spark-1": {"org/name": stock(10**9, False)}}
    assert row(report, "org/name")[3] == "unknown"


def test_the_draft_of_the_chosen_model_has_a_line() -> None:
    report = document()
    report["listing"]["draft"] = "org/draft"
    report["present"] = {"a": {"org/draft": stock(2 * 10**9, False)}}
    report["listing"]["nodes"] = [{"name": "a"}]
    line = row(report, "org/draft")
    assert line[0] == "+" and "a (part: 2.0 GB)" in line
    assert f"+ draft model of {QWEN72B}" in models.legend(report["listing"])


@pytest.mark.parametrize(
    ("present", "column"),
    [
        pytest.param({"a": {QWEN7B: stock(9)}, "b": {QWEN7B: stock(9)}}, "all", id="all"),
        pytest.param({"a": {QWEN7B: stock(9)}, "b": {}}, "a", id="one-of-two"),
        pytest.param({"a": {QWEN7B: stock(9)}}, "a", id="the-only-one"),
        pytest.param({"a": {}, "b": {}}, "", id="none"),
        pytest.param(
            {"a": {QWEN7B: stock(9)}, "b": {QWEN7B: stock(5 * 10**9, False)}},
            "a, b (part: 5.0 GB)",
            id="a-part",
        ),
    ],
)
def test_the_column_showing_where_weights_are(present: dict[str, Any], column: str) -> None:
    assert models.where(QWEN7B, present) == column


def test_unread_ranks_are_not_reported_as_nothing_runs() -> None:
    assert models.legend(document()["listing"]).endswith("nothing runs")
    unread = document(notes=["spark-1: its ranks could not be read"])
    assert models.legend(unread["listing"]).endswith("what runs is unknown")


def test_a_table_cuts_nothing_and_counts_no_colour() -> None:
    rows = [[click.style("x", fg="red"), "1"], ["longer than its head", "100"]]
    lines = click.unstyle(table(("a", "n"), rows, right=("n",))).splitlines()
    assert lines == [f"{'a':20}    n", f"{'x':20}    1", "longer than its head  100"]


class Asked:
    """Answers for Project.ask, by deploy, and what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
        self.answers, self.deploys = answers, list[str]()
        monkeypatch.setattr(Project, "fetch", self.ask)

    def ask(self, deploy: str, *_: Any, **__: Any) -> Any:
        self.deploys.append(deploy)
        if isinstance(answer := self.answers[deploy], Exception):
            raise answer
        return answer


def test_offline_fetches_only_the_light_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = Asked(monkeypatch, listing=document(light=True)["listing"])
    done = CliRunner().invoke(main, ["models", "--offline"])
    assert done.exit_code == 0, done.output
    assert questions.deploys == ["listing"]
    assert "no node was read" in done.output


def test_json_is_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch, models=document(runs=QWEN7B))
    done = CliRunner().invoke(main, ["models", "--json"])
    assert json.loads(done.stdout) == json.loads(json.dumps(document(runs=QWEN7B)))


def test_silent_nodes_end_the_listing_with_a_workaround(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Asked(monkeypatch, models=ClusterError("[spark-2] Could not connect (timed out)"))
    done = CliRunner().invoke(main, ["models"])
    assert done.exit_code == 1
    assert done.stderr == (
        "spark-cluster: [spark-2] Could not connect (timed out)\n"
        "spark-cluster models --offline reads no node\n"
    )

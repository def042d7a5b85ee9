"""spark-cluster models MODEL: the page of every entry, and of a model without one."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from spark_cluster.main import main

from cluster.catalog.models import entries

ALIASES = [model.alias for model in entries()]


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text('head = ["spark-1"]\n')
    return file


def page(inventory: Path, *words: str, columns: int = 100) -> Result:
    runner = CliRunner(env={"COLUMNS": str(columns)})
    return runner.invoke(main, ["models", *words, "-i", str(inventory)])


@pytest.mark.parametrize("alias", ALIASES)
def test_every_entry_has_a_page_that_shows_what_it_states(inventory: Path, alias: str) -> None:
    model = next(model for model in entries() if model.alias == alias)
    done = page(inventory, alias)
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    stated = [
        *(model.id, model.license or "unknown", model.revision or "unknown", model.notes),
        *model.pitfalls,
        *model.sources,
        *(variant.name for variant in model.variants),
        *(variant.evidence for variant in model.variants),
        *(variant.note for variant in model.variants),
        *(form.note for variant in model.variants for form in variant.forms),
        *(flag for variant in model.variants for flag in variant.flags),
        *(f"{k}={v}" for variant in model.variants for k, v in variant.env.items()),
        *(draft.id for draft in model.drafts),
        *(figure.source for figure in model.published),
        *(figure.workload for figure in model.published),
        *(name for name in model.unknown),
    ]
    assert not [each for each in stated if " ".join(each.split()) not in text]
    for image in filter(None, [model.image, *(variant.image for variant in model.variants)]):
        assert f"{image.reference}, by {image.publisher}" in text
        assert f"digest {image.digest or 'unknown'}" in text
        assert image.third_party is False or "A THIRD PARTY'S" in text


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_lines_are_as_wide_as_the_terminal_but_for_words_that_are_copied(
    inventory: Path, columns: int
) -> None:
    lines = page(inventory, "qwen38-27b", columns=columns).output.splitlines()
    table = [line for line in lines if line.startswith("  variant ")]
    assert len(table) == 1
    wide = [line for line in lines if len(line) > columns and len(line.split()) > 2]
    memory = lines[lines.index(table[0]) :][:6]
    assert not [line for line in wide if line not in memory]


def test_a_number_and_an_id_are_names_too(inventory: Path) -> None:
    by_alias = page(inventory, "qwen38-27b").output
    assert page(inventory, "17").output == by_alias
    assert page(inventory, "RadixArk/Qwen3.8-27B-NVFP4").output == by_alias


def test_a_figure_stands_with_its_load_or_says_that_none_is_stated(inventory: Path) -> None:
    text = " ".join(page(inventory, "gpt-oss-120b").output.split())
    assert "decode 55.4 tok/s, prefill 1,725 tok/s; load: 2,048 tokens in, 128 out, 1 st" in text
    assert "75 output tok/s of all streams, TTFT 2,700 ms, ITL 58 ms; load not stated" in text


def test_an_unknown_name_is_refused_with_the_nearest(inventory: Path) -> None:
    done = page(inventory, "qwen38-27c")
    assert done.exit_code == 1
    assert "did you mean qwen38-27b" in done.stderr


def test_a_model_outside_the_catalog_says_what_is_unknown(inventory: Path) -> None:
    text = " ".join(page(inventory, "org/name").output.split())
    assert "It is not in the catalog: its size, format, shapes, license" in text
    assert "pyinfra INVENTORY deploys/check.py --data model=org/name reads size" in text
    assert "lmsysorg/sglang:spark, the project's default" in text


def test_an_owners_entry_is_shown(inventory: Path) -> None:
    folder = inventory.with_name("catalog")
    folder.mkdir()
    (folder / "mine.toml").write_text('id = "me/mine"\nalias = "mine"\nnotes = "My own."\n')
    assert "My own." in page(inventory, "mine").output


def test_json_is_the_whole_document(inventory: Path) -> None:
    document = json.loads(page(inventory, "qwen38-27b", "--json").output)
    assert (document["version"], document["in_catalog"]) == (1, True)
    assert document["model"]["shape"]["kv_heads"] == 4
    eagle = next(form for form in document["forms"] if form["variant"] == "eagle")
    assert (eagle["nodes"], eagle["cuda_graphs"], eagle["draft"]) == (1, True, "")
    assert "--enable-linear-replayssm-spec" in eagle["arguments"]


def test_text_of_an_entry_cannot_steer_the_terminal(inventory: Path) -> None:
    folder = inventory.with_name("catalog")
    folder.mkdir()
    (folder / "mine.toml").write_text('id = "me/mine"\nalias = "mine"\nnotes = "a\\u001b[2Jb"\n')
    shown = page(inventory, "mine").output
    assert "ab" in click.unstyle(shown)
    assert "\x1b" not in shown

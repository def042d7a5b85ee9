"""A draft model beside the model, on @fake Sparks: what is read, asked, brought and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drafted import DRAFT, MODEL, write_entry
from fakes import Fakes, Run

from facts.weights import MARK

HEAD, WORKER = "@fake/spark-1", "@fake/spark-2"
WORDS = ("--data", "model=target")


@pytest.fixture
def sparks(tmp_path: Path) -> Fakes:
    """Sparks that have the model, and the draft model too."""
    write_entry(tmp_path, "d" * 40)
    fakes = Fakes.of(tmp_path)
    fakes.serves = MODEL
    for spark in fakes.sparks:
        spark.model, spark.drafts = MODEL, {DRAFT: True}
    return fakes


def lacking(sparks: Fakes) -> Fakes:
    for spark in sparks.sparks:
        spark.drafts = {DRAFT: False}
    return sparks


def downloads(run: Run) -> list[str]:
    """The models of the containers that list or download, in order."""
    started = [c for c in run.commands[HEAD] if "docker run --detach" in c]
    return [c.partition("spark-serving.task=")[2].split("'")[0].split()[2] for c in started]


def test_a_draft_that_is_there_is_read_once_a_node_and_used(sparks: Fakes) -> None:
    run = sparks.deploy(*WORDS)
    assert run.code == 0, run.text
    assert downloads(run) == []
    for node in (HEAD, WORKER):
        (reading,) = [c for c in run.commands[node] if f"begin draft {DRAFT}" in c]
        assert f"name={'d' * 40}" in reading
        assert len([c for c in run.commands[node] if "weights_here" in c]) == 2
        (created,) = [c for c in run.commands[node] if " docker create " in c]
        assert f"--speculative-draft-model-path {DRAFT} " in created
        assert f"--speculative-draft-model-revision {'d' * 40}" in created
    assert f"Weights of {MODEL} and {DRAFT}" in run.text


def test_dry_shows_the_draft_and_where_it_comes_from(sparks: Fakes) -> None:
    run = sparks.deploy("--dry", *WORDS, yes=False)
    assert f"value: draft = {DRAFT} (variant fast)" in run.text
    assert run.changes == {}


def test_what_is_missing_is_listed_before_anything_is_fetched(sparks: Fakes) -> None:
    sparks.sparks[0].weights = False
    run = lacking(sparks).deploy(*WORDS)
    assert downloads(run) == [MODEL, DRAFT, DRAFT, MODEL]
    lines = [line for line in run.text.splitlines() if "downloaded in" in line]
    assert ["draft: " in lines[0], "weights: " in lines[1]] == [True, True]


def test_a_variant_without_speculation_reads_no_draft(sparks: Fakes) -> None:
    run = sparks.deploy(*WORDS, "--data", "variant=plain")
    assert run.code == 0, run.text
    assert DRAFT not in json.dumps(run.commands)


def refusal(run: Run) -> str:
    assert run.code == 1 and run.changes == {}
    return run.text.partition("refused, nothing was changed:")[2]


def test_a_gated_draft_without_a_token(sparks: Fakes, tmp_path: Path) -> None:
    write_entry(tmp_path, gated=True)
    assert sparks.deploy(*WORDS).code == 0
    said = refusal(lacking(sparks).deploy(*WORDS))
    assert f"{HEAD}: model {DRAFT} is gated, its weights are not there" in said
    assert "--data draft=none" in said


def test_a_draft_that_is_not_there_while_offline(sparks: Fakes) -> None:
    said = refusal(lacking(sparks).deploy(*WORDS, "--data", "offline=true"))
    assert f"the weights of {DRAFT} are not there, or not whole, and offline = true" in said


def test_a_disk_with_room_for_one_of_the_two(sparks: Fakes, tmp_path: Path) -> None:
    lines = ["/raid/hf-cache", "yes yes", "Filesystem", "/dev/x 3905011724 801240000 10000000 1% /"]
    for spark in lacking(sparks).sparks:
        spark.weights = False
        spark.sections["disk /raid/hf-cache"] = (0, lines)
    write_entry(tmp_path, weight_bytes=9 << 30, draft_bytes=1)
    assert sparks.deploy("--dry", *WORDS, yes=False).code == 0
    write_entry(tmp_path, weight_bytes=9 << 30, draft_bytes=1 << 30)
    said = refusal(sparks.deploy(*WORDS))
    assert "9.0 GiB weights + 1.0 GiB draft = 10.0 GiB needed, 9.5 GiB free" in said


def test_a_draft_that_could_not_be_read(sparks: Fakes) -> None:
    sparks.sparks[1].sections[f"draft {DRAFT}"] = (1, ["ls: Input/output error"])
    said = refusal(sparks.deploy(*WORDS))
    assert f"{WORKER}: draft {DRAFT} could not be read: ls: Input/output error" in said


def test_a_second_repository_in_extra_args(sparks: Fakes) -> None:
    words = "extra_args=--tokenizer-path org/tokens"
    said = refusal(sparks.deploy("--data", "model=own/other", "--data", words))
    assert "extra_args name the repository org/tokens (--tokenizer-path)" in said


def test_a_converged_run_with_a_draft_takes_no_more_commands(sparks: Fakes) -> None:
    sparks.data["model"] = "target"
    from cluster.catalog.models import include

    include(sparks.folder / "catalog")
    sparks.run_ranks()
    include(sparks.folder / "none")
    run = sparks.deploy()
    assert run.code == 0, run.text
    assert run.changes == {}
    assert {node: len(scripts) for node, scripts in run.commands.items()} == {HEAD: 2, WORKER: 1}
    assert DRAFT not in json.dumps(run.commands)


def test_drafts_are_among_the_listed_models(sparks: Fakes) -> None:
    head, worker = sparks.sparks
    head.answers[MARK] = [f"{MARK} {DRAFT}", *head.heavy()[f"draft {DRAFT}"]]
    worker.answers[MARK] = []
    run = sparks.deploy(*WORDS, file="deploys/models.py")
    report = json.loads(run.out)
    assert report["listing"]["draft"] == DRAFT
    assert report["present"][HEAD][DRAFT]["complete"]
    assert report["present"][WORKER] == {}
    (script,) = [c for c in run.commands[WORKER] if f"{MARK} {DRAFT}" in c]
    assert f"name={'d' * 40}" in script

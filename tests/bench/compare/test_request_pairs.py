"""Requests of two runs, paired: what they show, and why some can't be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from compare_samples import a_file
from made_requests import START, answer, failed
from spark_bench.cli import main
from spark_bench.compare.comparison import compare_runs
from spark_bench.compare.request_pairs import PairedLatency
from spark_bench.record import Message, Prompt, Request
from spark_bench.results.codec import to_row
from spark_bench.results.files import requests_path, write_requests

REPEATS = 5
PROMPTS = [Prompt((Message("user", f"prompt {number}"),), 9, 20).sha256() for number in range(12)]


def requests(scale: float, seed: int, *, first: float = 1.0) -> list[list[Request]]:
    """Repeats of answers of 2 to 24 tokens, by so much slower; the first by `first` more."""
    rng = np.random.default_rng(seed)
    repeats = []
    for repeat in range(REPEATS):
        factor = scale * (first if not repeat else 1.0) * np.exp(rng.normal(0, 0.003))
        noise = factor * np.exp(rng.normal(0, 0.02, len(PROMPTS)))
        repeats.append(
            [
                answer(
                    index,
                    ttft=50 * (1 + index) * by,
                    gaps=[8 * by] * (1 + 2 * index),
                    prompt_sha256=PROMPTS[index],
                )
                for index, by in enumerate(noise)
            ]
        )
    return repeats


def saved(folder: Path, name: str, repeats: Sequence[Sequence[Request]], **changes: Any) -> Path:
    values = [1000.0, 1002.0, 998.0, 1001.0, 999.0][: len(repeats)]
    path = a_file(folder, name, *values, requests_file=f"{name}.requests.jsonl", **changes)
    rows = (to_row(each, START, number) for number, own in enumerate(repeats) for each in own)
    write_requests(rows, requests_path(path))
    return path


def paired(*paths: Path, anyway: bool = False) -> dict[str, PairedLatency]:
    comparison = compare_runs([str(path) for path in paths], anyway=anyway)
    return {row.latency: row for row in comparison.paired}


def why(*paths: Path, anyway: bool = False) -> str:
    comparison = compare_runs([str(path) for path in paths], anyway=anyway)
    assert not comparison.paired
    [note] = [note for note in comparison.notes if "not paired" in note]
    return note


def test_three_percent_are_found_request_by_request(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", requests(1.0, 1, first=1.2))
    b = saved(tmp_path, "b", requests(1.03, 2, first=1.2))
    rows = paired(a, b)
    assert list(rows) == ["e2e_latency", "tpot", "ttft"]
    for row in rows.values():
        assert (row.run, row.pairs, row.repeats, row.verdict) == ("B", 60, 5, "worse")
        assert row.low and row.high and 1.5 < row.low < row.percent < row.high < 4.5
        assert row.slower > 0.7
    back = paired(b, a)["tpot"]
    assert back.verdict == "better"
    assert (1 + back.percent / 100) * (1 + rows["tpot"].percent / 100) == pytest.approx(1)


def test_the_same_server_again_is_no_difference(tmp_path: Path) -> None:
    again = (saved(tmp_path, name, requests(1.0, seed)) for name, seed in (("a", 1), ("b", 2)))
    assert {row.verdict for row in paired(*again).values()} == {"unclear"}


def test_a_request_that_failed_on_one_side_and_longer_answers_are_left_out(tmp_path: Path) -> None:
    first, second = requests(1.0, 1), requests(1.0, 2)
    second[0][3] = failed(3, "timeout")
    second[0][3].prompt_sha256 = PROMPTS[3]
    second[1][4].output_tokens += 1
    rows = paired(saved(tmp_path, "a", first), saved(tmp_path, "b", second))
    assert {name: row.pairs for name, row in rows.items()} == {
        "e2e_latency": 58,
        "tpot": 59,
        "ttft": 59,
    }


def test_one_repeat_has_no_interval(tmp_path: Path) -> None:
    one, other = (requests(scale, 1)[:1] for scale in (1.0, 1.03))
    row = paired(saved(tmp_path, "a", one), saved(tmp_path, "b", other))["ttft"]
    assert row.percent == pytest.approx(3.0)
    assert (row.low, row.high, row.p, row.verdict) == (None, None, None, "1 repeat")


def without_hashes(repeats: list[list[Request]]) -> list[list[Request]]:
    for each in (each for own in repeats for each in own):
        each.prompt_sha256 = ""
    return repeats


def test_runs_that_cannot_be_paired_say_why(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", requests(1.0, 1))
    plain = a_file(tmp_path, "plain", *[1000.0, 1001.0], requests_file=None)
    assert why(a, plain) == ("requests are not paired: no requests file in B (run --save-requests)")
    earlier = saved(tmp_path, "earlier", without_hashes(requests(1.0, 1)))
    assert "B are not paired: the requests files name no prompts" in why(a, earlier)
    others = requests(1.0, 1)
    others[2][5].prompt_sha256 = "f" * 64
    message = why(a, saved(tmp_path, "other", others))
    assert "1 of 60 prompts are not the same: another tokenizer?" in message
    seed = saved(tmp_path, "seed", requests(1.0, 1), seed=8)
    assert why(a, seed, anyway=True) == "requests are not paired: they differ in seed"
    lost = saved(tmp_path, "lost", requests(1.0, 1))
    requests_path(lost).unlink()
    assert "lost.requests.jsonl can't be read" in why(a, lost)
    requests_path(lost).write_bytes(b'{"index": 1e99}\n')
    assert "lost.requests.jsonl, line 1" in why(a, lost)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"token_counts": [1]}, id="times without tokens"),
        pytest.param({"token_gaps_ns": [2**70, 1], "token_counts": [1, 1]}, id="a time too large"),
        pytest.param({"output_tokens": 2**70}, id="tokens too many"),
    ],
)
def test_a_damaged_line_is_a_reason_and_no_failure(tmp_path: Path, damage: dict[str, Any]) -> None:
    a = saved(tmp_path, "a", requests(1.0, 1))
    b = saved(tmp_path, "b", requests(1.0, 2))
    first, *others = requests_path(b).read_bytes().splitlines(keepends=True)
    line = msgspec.json.encode(json.loads(first) | damage)
    requests_path(b).write_bytes(b"".join([line, b"\n", *others]))
    assert "requests of B are not paired: " in why(a, b)


def test_a_requests_file_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    a = saved(tmp_path, "a", requests(1.0, 1))
    b = saved(tmp_path / "inner", "b", requests(1.0, 2))
    for name, read in (("../a.requests.jsonl", "inner/a.requests.jsonl"), ("..", "inner/..")):
        document = json.loads(b.read_bytes()) | {"requests_file": name}
        b.write_bytes(msgspec.json.encode(document))
        assert f"{read} can't be read" in why(a, b)


def test_every_form_has_the_pairs(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", requests(1.0, 1))
    b = saved(tmp_path, "b", requests(1.03, 2))

    def printed(*form: str) -> str:
        return CliRunner().invoke(main, ["compare", str(a), str(b), *form]).stdout

    [line] = [line for line in printed().splitlines() if line.startswith(" tpot_ms")]
    assert line.split()[1:3] == ["B", "60"] and line.split()[-1] == "worse"
    assert "By request: the geometric mean" in printed()
    assert "`tpot_ms` by request" in printed("--markdown")
    assert "by_request.tpot_ms,lower" in printed("--csv")
    rows = json.loads(printed("--json"))["by_request"]
    assert [row["latency"] for row in rows] == ["e2e_latency", "tpot", "ttft"]

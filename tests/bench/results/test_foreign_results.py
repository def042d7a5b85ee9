"""Result files of others: an odd one is named and left out, or refused; the rest is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from result_samples import a_result
from spark_bench.cli import main
from spark_bench.results.codec import encode_result

GOOD = json.loads(encode_result(a_result()))
DEEP = (
    '{"schema_version": 1, "kind": "spark-bench run", "x": ' + "[" * 200_000 + "]" * 200_000 + "}"
)


def put(place: str, value: Any) -> str:
    """The good result's text with one value changed."""
    changed = json.loads(json.dumps(GOOD))
    at: Any = changed
    *path, last = [int(word) if word.isdigit() else word for word in place.split(".")]
    for word in path:
        at = at[word]
    assert last in at if isinstance(at, dict) else True
    at[last] = value
    changed["id"] = f"{GOOD['id'][:-4]}ffff" if place != "id" else changed["id"]
    return json.dumps(changed)


ODD = {
    "a URL that is none": (put("config.url", "http://a]b"), "$.config.url"),
    "nested without end": (DEEP, "nested deeper"),
    "an integer of 31 digits": (put("summary.completed", 10**30), "$.summary.completed"),
    "an integer beyond floats": (put("summary.completed", 10**400), "$.summary.completed"),
    "an integer beyond SQLite": (put("config.seed", 2**63), "$.config.seed"),
    "a setting beyond SQLite": (
        put("provenance.server.settings", {"nnodes": 10**30}),
        "$.provenance.server.settings.nnodes",
    ),
    "a negative figure": (put("summary.output_throughput", -1.0), "$.summary.output_throughput"),
    "a negative quantile": (put("distributions.ttft_ms.0", -5.0), "$.distributions.ttft_ms"),
    "a figure without measure": (put("summary.mean_itl_ms", 1e300), "$.summary.mean_itl_ms"),
    "a negative load": (put("config.concurrency", -4), "$.config.concurrency"),
    "a rate of nothing": (put("config.request_rate", 0.0), "$.config.request_rate"),
    "half a surrogate": (put("config.model", "\ud800"), "is not a result of spark-bench run"),
    "no UTF-8": (put("config.model", "MODEL").replace("MODEL", "\udcff"), "is not a result"),
    "a year of its own": (put("created", "0001-01-01T00:00:00+14:00"), "$.created"),
    "no time zone": (put("created", "2026-11-23T13:38:05"), "$.created"),
    "a repeat's year": (put("repeats.0.started", "9999-12-31T23:59:59-14:00"), "repeats[0]"),
    "cut off": (json.dumps(GOOD)[:2000], "is not a result of spark-bench run"),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("SPARK_BENCH_HISTORY", str(tmp_path / "history.sqlite3"))
    monkeypatch.chdir(tmp_path)
    Path("good.json").write_bytes(encode_result(a_result()))

    def invoke(*words: str) -> Any:
        done = CliRunner().invoke(main, [*words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.output
        return done

    return invoke


@pytest.mark.parametrize(("text", "message"), ODD.values(), ids=ODD.keys())
def test_an_odd_file_is_named_and_the_others_are_taken(
    run: Callable[..., Any], text: str, message: str
) -> None:
    folder = Path("results")
    folder.mkdir()
    folder.joinpath("good.json").write_bytes(encode_result(a_result()))
    folder.joinpath("odd.json").write_bytes(text.encode(errors="surrogateescape"))
    report = run("report", "results", "-o", "page.html")
    assert report.exit_code == 0
    assert "left out: results/odd.json" in report.stderr
    assert message in report.stderr
    assert "openai/gpt-oss-120b" in Path("page.html").read_text()
    added = run("history", "add", "results")
    assert (added.exit_code, "1 result added" in added.output) == (1, True)
    assert "left out: results/odd.json" in added.stderr


@pytest.mark.parametrize(("text", "message"), ODD.values(), ids=ODD.keys())
def test_an_odd_file_alone_is_one_error(run: Callable[..., Any], text: str, message: str) -> None:
    Path("odd.json").write_bytes(text.encode(errors="surrogateescape"))
    for words in (("compare", "odd.json", "good.json"), ("report", "odd.json", "good.json")):
        done = run(*words)
        assert done.exit_code == 2
        assert done.stderr.startswith("Error: odd.json is not a result of spark-bench run")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_written_results_are_read_back() -> None:
    """A run that was asked for nothing odd has none of it."""
    assert msgspec.json.decode(encode_result(a_result()))["id"] == GOOD["id"]

"""`spark-bench verify` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import spark_bench
from click import BadParameter
from spark_bench.cli.verify import stream_counts


def verify(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(spark_bench.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "spark_bench", "verify", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": source} | environ,
    )


@pytest.mark.alone
def test_a_quick_verification() -> None:
    done = verify("--quick", "--streams", "4,1", "--seconds", "0.5", "--json")
    # A busy machine may not be good enough, which is no failure of the command.
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == report["verdict"]["good"]
    assert [level["streams"] for level in report["levels"]] == [1, 4]
    for level in report["levels"]:
        assert level["requests"] == 4 * level["streams"]
        assert level["tokens"] == level["requests"] * 11
        assert (level["failures"], level["miscounted"]) == ({}, 0)
        assert -50 < level["stamp_min_us"] <= level["stamp_us"]["p50"] < 5_000
        assert set(level["ttft"]) == set(level["itl"]) == {"mean", "p50", "p99"}
        assert level["audit"]["reads"] > 0
    assert report["capacity"]["unpaced"] > 1_000
    assert report["capacity"]["requests"] > 100
    assert report["capacity"]["tried"]
    assert report["peak_rss_bytes"] > 10_000_000
    assert report["surroundings"]["machine"]["kernel"]
    assert "4 streams ..." in done.stderr
    assert "This machine" in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(["--streams", "1,0"], "--streams: 1,0 is not a list", id="zero"),
        pytest.param(["--itl", "-1"], "--itl", id="itl"),
        pytest.param(["--seconds", "0"], "--seconds", id="seconds"),
    ],
)
def test_bad_options_are_refused(words: list[str], complaint: str) -> None:
    done = verify(*words)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_compiler_it_says_what_to_install() -> None:
    done = verify("--quick", CC="no-such-compiler")
    assert done.returncode == 1
    assert "needs a C compiler, and there is none of: no-such-compiler" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("64", (64,), id="one"),
        pytest.param("256, 1,16,16", (1, 16, 256), id="rising-and-once"),
    ],
)
def test_stream_counts_rise_and_are_unique(text: str, expected: tuple[int, ...]) -> None:
    assert stream_counts(text) == expected


@pytest.mark.parametrize("text", ["", "1,", "1.5", "-1", "4097", "a", "²"])
def test_invalid_stream_counts(text: str) -> None:
    with pytest.raises(BadParameter, match="whole numbers from 1 to 4096"):
        stream_counts(text)


def test_its_help_imports_nothing_heavy() -> None:
    source = str(Path(spark_bench.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "spark_bench", "verify", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": source},
    )
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "spark_bench.cli.commands" in imported
    assert not imported & {"numpy", "msgspec", "httpx", "rich", "ssl"}
    assert "Good enough means" in result.stdout

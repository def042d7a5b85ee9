"""`spark-bench run --as-published` against the reference server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from run_here import Ran, run
from spark_bench.cli import main
from spark_bench.expectations import as_published
from spark_bench.expectations.published import load_published
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.reference_server.streams import ReferenceApi

pytestmark = pytest.mark.alone

FLASH = "RadixArk/Qwen3.8-Flash-Next-NVFP4"
SERVES = ("--weights", FLASH, "--variant", "low-latency", "--nodes", "2")


@pytest.fixture(autouse=True)
def _short_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The published loads of Flash-Next with a 32nd of their tokens and a quarter of the prompts,
    for tests that take seconds; a history of their own."""
    monkeypatch.setenv("SPARK_BENCH_HISTORY", str(tmp_path / "history.sqlite3"))
    monkeypatch.chdir(tmp_path)
    shorter = tuple(
        replace(
            one,
            prompts=one.prompts and max(one.prompts // 4, one.streams or 1),
            input_len=one.input_len and one.input_len // 32,
            output_len=one.output_len and one.output_len // 32,
        )
        for one in load_published()
    )
    monkeypatch.setattr(as_published, "load_published", lambda: shorter)


def measured(reference: ReferenceServer, here: Path, *words: str) -> Ran:
    reference.configure(ttft_us=5_000, itl_us=2_000)
    ran = run(reference.url, "--as-published", *words, *SERVES, here=here)
    assert ran.code == 0, ran.err
    return ran


def test_all_stated_loads_are_sent_one_after_the_other(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    ran = measured(reference, tmp_path / "r")
    configs = sorted((r.config for r in ran.results), key=lambda config: config.concurrency or 0)
    sent = [(c.concurrency, c.num_prompts, c.input_len, c.output_len) for c in configs]
    assert sent == [(1, 2, 32, 8), (16, 16, 32, 8)]
    for config in configs:
        assert (config.endpoint, config.cache, config.request_rate) == ("completions", "miss", None)
        assert config.published and config.published.streams == config.concurrency
    streams = reference.dump()
    assert {stream.api for stream in streams} == {ReferenceApi.COMPLETION}
    for result in ran.results:
        assert result.summary.peak_concurrency == result.config.concurrency
        assert result.lengths.differing == 0
        assert any("24 in flight" in n and "number of prompts" in n for n in result.notes)
    # What will be sent is told first, on stderr, and one table has all of it at the end.
    assert ran.err.index("as published: 2 prompts") < ran.err.index("prompts and warm-up")
    table = ran.out[ran.out.rindex("difference") :]
    assert table.count("mean TPOT") == 2 and "19.94" in table and "79.16" in table
    assert "input + output per" in table and "verified upstream" in table


def test_one_load_is_chosen_by_its_streams_and_measured_again(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    ran = measured(reference, tmp_path / "r", "1", "--repeat", "2")
    assert ran.result.config.concurrency == 1 and len(ran.result.repeats) == 2
    assert not any("not compared" in note for note in ran.result.notes)
    (line,) = [text for text in ran.out.splitlines() if text.startswith("published   mean TPOT")]
    assert "±" in line and "published 19.94 ms" in line


def test_a_dry_run_prints_the_plan_and_sends_nothing(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    ran = measured(reference, tmp_path / "r", "--dry-run")
    first, second, *left = ran.out.splitlines()
    assert first.startswith("as published: 2 prompts, 32/8 tokens, 1 in flight, cache flushed")
    assert second.startswith("as published: 16 prompts, 32/8 tokens, 16 in flight")
    assert [line.rpartition("): ")[2] for line in left] == [
        "not stated: number of prompts",
        "its texts are not random ones: 'a prefill of 100k tokens'",
    ]
    assert not reference.dump() and not ran.results


def test_the_report_the_comparison_and_the_history_show_it(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    here = tmp_path / "r"
    measured(reference, here)
    one, sixteen = here / "run_32_8_c1.json", here / "run_32_8_c16.json"

    def typed(*words: str | Path) -> str:
        done = CliRunner().invoke(main, list(map(str, words)))
        assert done.exit_code == 0, done.output
        return done.stdout

    typed("report", here, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    section = page[page.index('<section id="published"') : page.index('<section id="expect')]
    assert section.count("mean TPOT") == 2 and "19.94" in section and "verified upstream" in section
    assert 'class="scroll cards"' in section  # a card for each row on a phone
    assert "published figures are for Sparks" in section
    compared = typed("compare", "--anyway", one, sixteen)
    assert "note: A, as published: mean TPOT" in compared
    assert "B, as published" in compared
    shown = typed("history", "show")
    assert "published 79.16 ms" in " ".join(shown.split())
    assert "as-published" in typed("history", "list")


def test_runs_stay_comparable_when_the_published_figures_are_taken_anew(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    measured(reference, tmp_path / "r", "1")
    file, later = tmp_path / "r" / "run.json", tmp_path / "later.json"
    document = json.loads(file.read_bytes())
    document["id"] = f"{document['id']}x"
    document["config"]["published"]["tpot_ms"] = 15.5
    later.write_text(json.dumps(document))
    done = CliRunner().invoke(main, ["compare", str(file), str(later)])
    assert done.exit_code == 0, done.output
    assert "published 19.94 ms" in done.stdout and "published 15.5 ms" in done.stdout


@pytest.mark.parametrize(
    "words, error",
    [
        (["-n", "3"], "--num-prompts doesn't go with --as-published"),
        (["-c", "3"], "--concurrency doesn't go with --as-published"),
        (["-r", "3"], "--request-rate doesn't go with --as-published"),
        (["-i", "3"], "--input-len doesn't go with --as-published"),
        (["-o", "3"], "--output-len doesn't go with --as-published"),
        (["--sweep", "rate"], "--sweep doesn't go with --as-published"),
        (["--extra-body", '{"top_p": 0.5}'], "--extra-body doesn't go with --as-published"),
        (["--cache", "hit"], "--cache hit doesn't go with --as-published"),
        (["--endpoint", "chat"], "--endpoint chat doesn't go with --as-published"),
        (["--no-ignore-eos"], "--no-ignore-eos doesn't go with --as-published"),
        (["--temperature", "1"], "--temperature 1.0 doesn't go with --as-published"),
    ],
)
def test_options_that_change_the_load_are_refused_by_name(
    reference: ReferenceServer, words: list[str], error: str
) -> None:
    ran = run(reference.url, "--as-published", *words, *SERVES)
    assert ran.code == 2 and error in ran.err
    assert "the published figure says what is sent; leave one of them out" in ran.err
    assert not reference.dump()


@pytest.mark.parametrize(
    "words, error",
    [
        (["--as-published", "x"], "--as-published x: give all, or numbers of requests in flight"),
        (["--as-published", "0"], "--as-published 0: give all, or numbers of requests in flight"),
        (["--variant", "spark"], "--variant needs --as-published"),
        (["--nodes", "2"], "--nodes needs --as-published"),
        (["--weights", "a/b"], "--weights needs --as-published"),
        (["--dry-run"], "--dry-run needs --as-published"),
        (["quick", "--as-published"], "profile quick doesn't go with --as-published"),
        (["--as-published"], "no figures are published for reference; with their whole load"),
    ],
)
def test_other_bad_input_is_one_error(
    reference: ReferenceServer, words: list[str], error: str
) -> None:
    ran = run(reference.url, *words)
    assert ran.code == 2 and error in ran.err and len(ran.err.splitlines()) == 1
    assert not reference.dump()

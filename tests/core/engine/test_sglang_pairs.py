"""Options that SGLang asserts of each other: added where a word mends it, else refused."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from subprocess import run

import pytest

from cluster.engine.argv import Launch, argv
from cluster.engine.options import RECORDED, check_arguments, options_of, recorded_table
from cluster.engine.pairs import PAIRS, READ, Condition, check_pairs, required_arguments
from cluster.engine.versions import parse_version
from cluster.findings import Finding, Level

SPARK, *_, NEW = RECORDED
ENTRIES = tomllib.loads(PAIRS.read_text())["pairs"]
each_read = pytest.mark.parametrize("version", READ)


def line(version: str, *extra: str, tp: int = 1, pp: int = 1, nodes: int = 1) -> tuple[str, ...]:
    address = "169.254.1.1:50000" if nodes > 1 else None
    launch = Launch("m", tp=tp, pp=pp, nnodes=nodes, dist_init_addr=address, extra_args=extra)
    return argv(launch, version)


def pair_findings(version: str, *extra: str, **sizes: int) -> list[Finding]:
    return check_pairs(line(version, *extra, **sizes)[1:], version)


@each_read
def test_pipeline_stages_start_without_a_word_of_the_user(version: str) -> None:
    words = line(version, pp=2, nodes=2)
    assert words.count("--disable-overlap-schedule") == 1
    assert check_pairs(words[1:], version) == []
    assert check_arguments(words[1:], version) == [] or version not in RECORDED


@each_read
def test_one_stage_gets_no_extra_options(version: str) -> None:
    assert "--disable-overlap-schedule" not in line(version, tp=2, nodes=2)
    assert required_arguments(line(version, tp=2, nodes=2), version) == ()


def test_options_given_by_the_user_are_not_repeated() -> None:
    words = line(SPARK, "--disable-overlap", pp=2)
    assert "--disable-overlap-schedule" not in words
    assert check_pairs(words[1:], SPARK) == []


@each_read
def test_data_parallelism_over_nodes_gets_attention_dp(version: str) -> None:
    words = line(version, "--dp-size=2", tp=2, nodes=2)
    assert "--enable-dp-attention" in words
    assert check_pairs(words[1:], version) == []
    assert "--enable-dp-attention" not in line(version, "--dp", "2", tp=2)


def test_an_option_gets_the_two_others_it_needs() -> None:
    words = line(SPARK, "--enable-pdmux")
    assert words[-4:] == (
        "--chunked-prefill-size",
        "-1",
        "--disable-overlap-schedule",
        "--enable-pdmux",
    )
    assert pair_findings(SPARK, "--enable-pdmux") == []


@pytest.mark.parametrize(
    ("extra", "sizes", "says"),
    [
        ("--speculative-algorithm EAGLE", {"pp": 2}, "compatible with speculative decoding"),
        ("--enable-mixed-chunk", {"pp": 2}, "compatible with mixed chunked prefill"),
        ("--enable-pdmux --chunked-prefill-size 4096", {}, "not compatible with chunked prefill"),
        ("--enable-hierarchical-cache --disable-radix-cache", {}, "exclude each other"),
        ("--enable-priority-scheduling --schedule-policy lpm", {}, "fcfs or lof"),
        ("--dp-size 3 --enable-dp-attention", {"tp": 4}, "must divide tensor_parallel"),
        ("--enable-lora", {}, "needs --max-lora-rank and --lora-target-modules"),
        ("--enable-lora --max-lora-rank 8", {}, "needs --max-lora-rank and --lora-target-modules"),
        ("--lora-paths a=/a --max-loaded-loras 4", {}, "less than --max-loras-per-batch"),
        ("--attention-backend trtllm_mha", {}, "a Spark has 12.1"),
        ("--speculative-algorithm EAGLE3 --speculative-eagle-topk 1", {}, "num-steps alone"),
        ("--page-size 64 --chunked-prefill-size 100", {}, "multiple of --page-size"),
    ],
)
def test_a_combination_no_option_fixes_is_refused(
    extra: str, sizes: dict[str, int], says: str
) -> None:
    (finding,) = pair_findings(SPARK, *extra.split(), **sizes)
    assert finding.level is Level.ERROR
    assert says in finding.what
    assert finding.cure


@pytest.mark.parametrize(
    "extra",
    [
        "--enable-priority-scheduling",
        "--enable-priority-scheduling --schedule-policy lof",
        "--lora-paths a=/a --max-loaded-loras 8",
        "--enable-lora --max-lora-rank 8 --lora-target-modules all",
        "--disable-radix-cache",
        "--page-size 64 --chunked-prefill-size 8192",
        "--page-size 64 --chunked-prefill-size -1",
        "--attention-backend triton",
    ],
)
def test_compatible_options_are_accepted(extra: str) -> None:
    assert pair_findings(SPARK, *extra.split()) == []


def test_an_unread_version_is_only_a_warning() -> None:
    (finding,) = pair_findings("0.5.12", "--enable-hierarchical-cache", "--disable-radix-cache")
    assert finding.level is Level.WARNING


def test_combinations_a_newer_version_accepts_are_allowed() -> None:
    assert pair_findings(NEW, "--attention-backend", "trtllm_mha") == []
    assert pair_findings(NEW, "--speculative-algorithm", "EAGLE", pp=2) == []
    assert "EAGLE" in str(pair_findings(NEW, "--speculative-algorithm", "NGRAM", pp=2))


@pytest.mark.parametrize(
    ("extra", "sizes", "refusing"),
    [
        ("--enable-mixed-chunk", {"pp": 2}, "0.5.3.post3"),
        ("--enable-mixed-chunk --speculative-algorithm EAGLE", {}, "0.5.3.post3"),
        ("--moe-dp-size 2", {"pp": 2}, "0.5.11 0.5.17"),
        ("--moe-dense-tp-size 2", {"tp": 2}, "0.5.3.post3 0.5.11"),
        ("--moe-dense-tp-size 2", {"tp": 4}, "0.5.3.post3 0.5.11 0.5.17"),
        ("--disable-cuda-graph-padding --enable-torch-compile", {}, "0.5.17"),
        ("--attention-backend trtllm_mla", {}, "0.5.3.post3"),
        ("--attention-backend trtllm_mha", {}, "0.5.3.post3 0.5.11 0.5.17"),
        ("--decode-attention-backend trtllm_mha", {}, "0.5.3.post3"),
        ("--prefill-attention-backend trtllm_mha", {}, "0.5.3.post3 0.5.11 0.5.17"),
        ("--ssl-keyfile /key", {}, "0.5.11 0.5.17"),
        ("--grpc-port 1 --tokenizer-worker-num 2", {}, "0.5.17"),
    ],
)
def test_each_of_the_older_versions_refuses_what_its_own_code_does(
    extra: str, sizes: dict[str, int], refusing: str
) -> None:
    older = ("0.5.3.post3", "0.5.11", "0.5.17")
    found = [version for version in older if pair_findings(version, *extra.split(), **sizes)]
    assert found == refusing.split()


def test_the_versions_stand_in_their_order() -> None:
    assert all(parse_version(a) < parse_version(b) for a, b in pairwise(READ))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e["says"])
def test_every_pair_names_options_that_a_version_of_it_has(entry: dict[str, object]) -> None:
    """A misspelt option would never hold, and nobody would see it."""
    since, before = str(entry.get("since", READ[0])), str(entry.get("before", "99.0"))
    tables = [
        options_of(v)
        for v in READ
        if parse_version(since) <= parse_version(v) < parse_version(before)
    ]
    assert tables
    for either in entry["when"]:  # type: ignore[attr-defined]
        for text in either.split(" | "):
            condition = Condition.parse(text)
            names = {n for n in (condition.option, condition.other) if n.startswith("--")}
            assert all(any(n in table for table in tables) for n in names)
    for word in entry.get("add", []):  # type: ignore[attr-defined]
        assert not word.startswith("--") or all(word in table for table in tables)


ADDED = {word for entry in ENTRIES for word in entry.get("add", [])}
STUB = Path(__file__).parents[2] / "cluster/testbed/image/stub/sglang"
PARSE = "import sys; from sglang import arguments; arguments.parse(sys.argv[1:])"


def stub_parses(folder: Path, version: str, words: Sequence[str]) -> tuple[int, str]:
    """Exit code and words of the test bed's stub engine, which asserts as SGLang does."""
    copytree(STUB, folder / "sglang", dirs_exist_ok=True)
    (folder / "sglang/options.json").write_text(json.dumps(recorded_table(version)))
    (folder / f"sglang-{version}.dist-info").mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: sglang\nVersion: {version}\n"
    (folder / f"sglang-{version}.dist-info/METADATA").write_text(metadata)
    done = run(
        [sys.executable, "-c", PARSE, *words],
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize(
    ("extra", "sizes"),
    [
        ("", {"pp": 2, "nodes": 2}),
        ("--dp-size 2 --enable-dp-lm-head", {"tp": 2, "nodes": 2}),
        ("--enable-pdmux", {}),
    ],
)
def test_the_stub_engine_takes_the_line_that_a_deploy_writes(
    tmp_path: Path, version: str, extra: str, sizes: dict[str, int]
) -> None:
    words = line(version, *extra.split(), **sizes)[1:]
    assert stub_parses(tmp_path, version, words) == (0, "")
    code, parsed = stub_parses(tmp_path, version, [w for w in words if w not in ADDED])
    assert code == 1
    assert parsed.startswith("AssertionError: ")

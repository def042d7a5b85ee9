"""What SGLang's parser would refuse, reported before a container starts."""

from __future__ import annotations

import pytest

from cluster.catalog.models import catalog
from cluster.engine.options import RECORDED, check_arguments, options_of
from cluster.findings import Finding, Level

SPARK, *_, NEW = RECORDED
each_version = pytest.mark.parametrize("version", RECORDED)


def refused(line: str, version: str = NEW) -> Finding:
    (finding,) = check_arguments(("sglang.launch_server", *line.split()), version)
    return finding


@each_version
@pytest.mark.parametrize("option", ["--reasoning-parser", "--tool-call-parser"])
def test_the_parser_name_deepseek_is_refused(option: str, version: str) -> None:
    output = str(refused(f"{option} deepseek", version))
    assert f"SGLang {version} has no {option} 'deepseek'; did you mean deepseek" in output


@each_version
@pytest.mark.parametrize(
    "model", [m for m in catalog() if (m.number or 0) <= 14], ids=lambda m: m.alias
)
def test_every_parser_of_the_first_models_exists(model: object, version: str) -> None:
    for kind in ("reasoning", "tool-call"):
        name = getattr(model, f"{kind.replace('-', '_')}_parser")
        assert not name or name in options_of(version)[f"--{kind}-parser"].choices


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("--nodes 2", "does not know --nodes; did you mean --nnodes", id="unknown"),
        pytest.param("--zq9 2", "does not know --zq9", id="nothing-near"),
        pytest.param(
            "--disable 1",
            "would stop: ambiguous option: --disable could match --disable-",
            id="ambiguous",
        ),
        pytest.param("--port http", "needs a number after --port, not 'http'", id="number"),
        pytest.param(
            "--context-length abc",
            "needs a number after --context-length, not 'abc'",
            id="number-without-a-default",
        ),
        pytest.param("--help", "prints its options after --help, and exits", id="help"),
        pytest.param("-h", "prints its options after -h, and exits", id="help-in-short"),
        pytest.param("--host", "would stop: argument --host: expected one argument", id="last"),
        pytest.param(
            "--host --tp 2",
            "would stop: argument --host: expected one argument",
            id="before-an-option",
        ),
        pytest.param(
            "--enable-metrics=1",
            "would stop: argument --enable-metrics: ignored explicit argument '1'",
            id="flag",
        ),
        pytest.param("--tp 2 two", "takes no 'two' that follows no option", id="left-over"),
        pytest.param("-tp 2", "does not know -tp", id="one-dash"),
        pytest.param("--log-requests-level 9", "has no --log-requests-level '9'", id="choice"),
    ],
)
def test_a_refusal_names_the_word(line: str, words: str) -> None:
    finding = refused(line)
    assert finding.level is Level.ERROR
    assert finding.what.startswith(f"SGLang {NEW} {words}")
    assert finding.cure


def test_a_wrong_parser_is_fixed_by_its_setting() -> None:
    assert "--data tool_call_parser=auto" in refused("--tool-call-parser nope").cure


def test_all_choices_are_shown() -> None:
    assert "(it has breakable, disabled, full)" in refused("--cuda-graph-backend-decode x").what


def test_all_mistakes_are_reported_at_once() -> None:
    words = ["--nodes", "2", "--reasoning-parser", "x", "--port", "y", "--tp", "2"]
    assert len(check_arguments(words, NEW)) == 3


@pytest.mark.parametrize("line", ["--cuda-graph-backend-decode disabled", "--attn-dp-size 2"])
def test_new_options_are_unknown_to_the_spark_image(line: str) -> None:
    assert "does not know" in refused(line, SPARK).what
    assert check_arguments(line.split(), NEW) == []


@pytest.mark.parametrize("line", ["--cuda-graph-max-bs 8", "--enable-ep-moe"])
def test_removed_options_are_unknown_to_a_new_image(line: str) -> None:
    assert check_arguments(line.split(), SPARK) == []
    assert check_arguments(line.split(), NEW)


def test_a_version_that_is_not_recorded_only_warns() -> None:
    finding = refused("--nodes 2", "0.5.20")
    assert finding.level is Level.WARNING
    assert "SGLang 0.5.20, compared with 0.5.19, does not know --nodes" in finding.what
    unknown = refused("--nodes 2", "0.0.0.dev1+g452239a74")
    assert unknown.level is Level.WARNING
    assert "SGLang of an unknown release, compared with 0.5.23, does not" in unknown.what


@pytest.mark.parametrize("value", ["b12x", "nope"])
def test_what_an_image_is_known_to_take_is_not_refused(value: str) -> None:
    line = ("--moe-runner-backend", value, "--tp-size", "two")
    findings = check_arguments(line, "0.0.0", ("--moe-runner-backend", "b12x"))
    assert ["--moe-runner-backend" in f.what for f in findings] == [True] * (value != "b12x") + [
        False
    ]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        pytest.param("NEXTN", "0.5.3.post3", id="everywhere"),
        pytest.param("dflash", "0.5.17", id="in-any-case-where-the-parser-has-no-choices"),
        pytest.param("DSPARK", "0.5.17", id="later"),
        pytest.param("UNO", "0.5.21", id="latest"),
        pytest.param("DSPRK", "", id="misspelt"),
    ],
)
def test_the_names_of_speculative_decoding_are_checked(name: str, first: str) -> None:
    for version in RECORDED:
        findings = check_arguments(("--speculative-algorithm", name), version)
        known = bool(first) and RECORDED.index(version) >= RECORDED.index(first)
        assert known is not any(f.level is Level.ERROR for f in findings), version
    if not first:
        assert "did you mean DSPARK?" in findings[0].what


@pytest.mark.parametrize("value", ["1", "-1", "0.5", "1e3", "16k", "1Mi", "+2"])
def test_numbers_may_be_written_as_sglang_reads_them(value: str) -> None:
    assert check_arguments(["--max-prefill-tokens", value], NEW) == []

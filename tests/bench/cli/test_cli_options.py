"""What can be typed, what it becomes, what is refused; and the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import msgspec
import pytest
import spark_bench
from click.testing import CliRunner, Result
from result_samples import a_result
from spark_bench import errors
from spark_bench.cli import main
from spark_bench.display.progress import ProgressDisplay
from spark_bench.load.profile import profile_catalog
from spark_bench.load.sweep import Sweep
from spark_bench.options import (
    FailureLimit,
    LoadOptions,
    RunOptions,
    RunOutcome,
    parse_failure_limit,
)
from spark_bench.results.codec import decode_result

Execute = Callable[[RunOptions, ProgressDisplay], RunOutcome]


class FakeRun(ModuleType):
    """Stands in for spark_bench.run.execute: takes the options, measures nothing."""

    def __init__(self) -> None:
        super().__init__("spark_bench.run.execute")
        self.options: RunOptions | None = None
        self.outcome: RunOutcome | BaseException = RunOutcome((), (), failed=0, total=10)

    def execute(self, options: RunOptions, show: ProgressDisplay) -> RunOutcome:
        self.options = options
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeRun]:
    fake = FakeRun()
    monkeypatch.setitem(sys.modules, "spark_bench.run.execute", fake)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("SPARK_BENCH_URL", "SPARK_BENCH_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield fake


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, ["run", *words])


def options(run: FakeRun, *words: str) -> RunOptions:
    result = typed(*words)
    assert result.exit_code == 0, result.output
    assert run.options is not None
    return run.options


def test_without_arguments_the_quick_profile_runs(run: FakeRun) -> None:
    parsed = options(run)
    assert parsed.load.profile.name == "quick"
    assert (parsed.load.profile.num_prompts, parsed.load.profile.input_len) == (10, 128)
    assert parsed == RunOptions(load=LoadOptions(profile=parsed.load.profile))


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        pytest.param("-n 7", "num_prompts", 7, id="n"),
        pytest.param("-i 1", "input_len", 1, id="i"),
        pytest.param("-o 9", "output_len", 9, id="o"),
        pytest.param("-r 0.5", "request_rate", 0.5, id="r"),
        pytest.param("-r inf", "request_rate", None, id="r-inf"),
        pytest.param("-c 3", "concurrency", 3, id="c"),
        pytest.param("-c none", "concurrency", None, id="c-none"),
    ],
)
def test_an_override_keeps_the_rest_of_the_profile(
    run: FakeRun, words: str, field: str, value: object
) -> None:
    plain = options(run, "stress", "-r", "8", "-c", "4", "-n", "90").load.profile
    parsed = options(run, "stress", "-r", "8", "-c", "4", "-n", "90", *words.split()).load.profile
    assert parsed == msgspec.structs.replace(plain, **{field: value})


def test_overrides_are_kept_as_the_profile_has_them(run: FakeRun) -> None:
    parsed = options(run, "stress", "-c", "none", "-r", "inf", "-o", "3")
    assert parsed.load.overrides == {"concurrency": None, "request_rate": None, "output_len": 3}


def test_several_at_once(run: FakeRun, tmp_path: Path) -> None:
    parsed = options(
        run, "latency", "--seed", "3", "--endpoint", "generate", "--repeat", "2", "--turns", "3",
        "--think-time", "0", "--extra-body", '{"top_p": 0.9}', "--no-ignore-eos", "--timeout",
        "1.5", "--max-failures", "5%", "--slo", "ttft=2s", "--no-power", "--burstiness", "inf",
        "--output", str(tmp_path / "new" / "x.json"), "--save-requests",
    )  # fmt: skip
    assert (parsed.load.seed, parsed.load.repeat, parsed.prompts.turns) == (3, 2, 3)
    assert parsed.prompts.think_time == 0.0
    assert (parsed.server.endpoint, parsed.server.extra_body) == ("generate", {"top_p": 0.9})
    assert (parsed.server.ignore_eos, parsed.load.timeout) == (False, 1.5)
    assert parsed.output.max_failures == FailureLimit(percent=5.0)
    assert parsed.measure.slo is not None and parsed.measure.slo.limits_ms == {"ttft": 2000.0}
    assert (parsed.server.power, parsed.measure.metrics) == (False, None)
    assert parsed.load.burstiness == float("inf")
    assert (parsed.output.output, parsed.output.save_requests) == (
        tmp_path / "new" / "x.json",
        True,
    )


def test_a_sweep_over_concurrency_ends_at_the_number_of_prompts(run: FakeRun) -> None:
    assert options(run, "--sweep", "concurrency=1,4").load.sweep == Sweep(
        "concurrency", (1, 4), most=10
    )
    assert options(run, "--sweep", "rate", "--slo", "ttft=1").load.sweep == Sweep(
        "rate", attainment=0.9
    )


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_a_url_may_be_that_of_the_api(run: FakeRun, url: str) -> None:
    assert options(run, "--url", url).server.url == "http://h:1"


def test_a_url_from_the_environment(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_BENCH_URL", "http://[::1]:30000")
    assert options(run).server.url == "http://[::1]:30000"


REFUSED = [
    pytest.param("-n 0", "--num-prompts", "whole number of 1", id="no-prompts"),
    pytest.param("-o 0", "--output-len", "whole number of 1", id="no-output"),
    pytest.param("-i x", "--input-len", "x is not a whole number", id="input-no-number"),
    pytest.param("-i 1.5", "--input-len", "1.5 is not a whole number", id="half-a-token"),
    pytest.param("-r 0", "--request-rate", "0 is not a number above 0", id="rate-0"),
    pytest.param("-r -2", "--request-rate", "-2 is not a number above 0", id="rate-negative"),
    pytest.param("-r nan", "--request-rate", "nan is not a number above 0", id="rate-nan"),
    pytest.param("-c 0", "--concurrency", "or none for no limit", id="concurrency-0"),
    pytest.param("-c 11", "--concurrency", "number of prompts (10)", id="more-than-prompts"),
    pytest.param("quikc", "quikc", "did you mean quick", id="unknown-profile"),
    pytest.param("--num-promts 3", "--num-promts", "--num-prompts", id="unknown-option"),
    pytest.param("--url foo", "--url foo", "http://spark-1:30000", id="url"),
    pytest.param("--url ftp://h", "--url ftp://h", "http://spark-1:30000", id="url-scheme"),
    pytest.param("--url http://h:99999", "--url", "http://spark-1:30000", id="url-port"),
    pytest.param("--endpoint foo", "--endpoint", "completions", id="endpoint"),
    pytest.param("--timeout inf", "--timeout", "inf is not a number above 0", id="timeout"),
    pytest.param("--think-time -1", "--think-time", "0 or more", id="think-time"),
    pytest.param("--extra-body []", "--extra-body", "JSON object", id="body-array"),
    pytest.param("--extra-body {{", "--extra-body", "not JSON", id="body-cut"),
    pytest.param('--extra-body {{"a":NaN}}', "--extra-body", "NaN is not a number", id="body-nan"),
    pytest.param(
        '--extra-body {{"a":1e999}}', "--extra-body", "1e999 is not a number", id="body-inf"
    ),
    pytest.param(
        f'--extra-body {{{{"a":{10**30}}}}}', "--extra-body", "is not a number", id="body-large"
    ),
    pytest.param(
        r'--extra-body {{"a":"\ud800"}}', "--extra-body", "half a character", id="body-surrogate"
    ),
    pytest.param(
        '--extra-body {{"a":' + "[" * 100_000, "--extra-body", "nested too deep", id="body-deep"
    ),
    pytest.param(
        '--extra-body {{"a":' + "[" * 200 + "]" * 200 + "}}",
        "--extra-body",
        "100 levels at most",
        id="body-deeper-than-a-result",
    ),
    pytest.param('--extra-body {{"n":2}}', "--extra-body", "leave n out", id="body-answers"),
    pytest.param(
        '--extra-body {{"sampling_params":{{"n":2}}}}', "n = 2", "leave n out", id="body-samples"
    ),
    pytest.param("--url http://[::1", "--url http://[::1", "http://spark-1", id="url-brackets"),
    pytest.param("--url http://[x]/", "--url http://[x]/", "http://spark-1", id="url-no-address"),
    pytest.param("--max-failures -1", "--max-failures -1", "such as 1%", id="failures"),
    pytest.param("--max-failures 101%", "--max-failures 101%", "such as 1%", id="percent"),
    pytest.param("--slo ttft", "--slo", "ttft=500", id="slo"),
    pytest.param("--ramp 3", "--ramp", "START:END", id="ramp"),
    pytest.param("--burstiness 2", "--burstiness 2", "-r 2", id="bursts-without-a-rate"),
    pytest.param("--ramp-slots 2", "--ramp-slots 2", "-c 8", id="no-slots-to-open"),
    pytest.param("--think-time 1", "--think-time", "--turns", id="pause-without-turns"),
    pytest.param("--prefix-groups 2", "--prefix-groups", "--shared-prefix", id="groups"),
    pytest.param("--trace-speed 2", "--trace-speed", "--trace", id="speed-without-trace"),
    pytest.param("--sweep rate -r 2", "--request-rate", "--sweep rate=2", id="swept-rate"),
    pytest.param("--sweep concurrency -c 2", "--concurrency", "=2", id="swept-slots"),
    pytest.param("--sweep tokens", "--sweep", "concurrency or rate", id="sweep"),
    pytest.param("--trace {file} -r 2", "--request-rate", "--trace", id="trace-and-rate"),
    pytest.param("--trace {file} --cache hit", "--cache hit", "--trace", id="trace-and-cache"),
    pytest.param("--trace {file} --sweep rate", "--sweep", "--trace", id="trace-and-sweep"),
    pytest.param("--sharegpt {file} -i 3", "--input-len", "--sharegpt", id="sharegpt-and-input"),
    pytest.param("--trace {file}.no", "--trace", "does not exist", id="no-such-trace"),
    pytest.param("--output {folder}", "--output", "is a folder", id="output-folder"),
    pytest.param("--output {file}/x.json", "--output", "not a folder", id="output-below-a-file"),
]


@pytest.mark.parametrize(("words", "name", "cure"), REFUSED)
def test_an_impossible_option_is_one_line_naming_it(
    run: FakeRun, tmp_path: Path, words: str, name: str, cure: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    result = typed(*words.format(file=file, folder=tmp_path).split())
    assert result.exit_code == 2
    assert run.options is None
    assert len(result.stderr.splitlines()) == 1
    assert name in result.stderr and cure in result.stderr


def test_a_password_in_a_url_is_refused_and_not_repeated(run: FakeRun) -> None:
    result = typed("--url", "http://me:hunter2@h:30000")
    assert result.exit_code == 2
    assert "hunter2" not in result.output
    assert "SPARK_BENCH_API_KEY" in result.output


def test_the_key_comes_from_a_file_or_the_environment_and_is_hidden(
    run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-us")
    assert options(run).server.api_key is None
    monkeypatch.setenv("SPARK_BENCH_API_KEY", "sk-environment")
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    file.chmod(0o600)
    from_environment, from_file = options(run), options(run, "--api-key-file", str(file))
    assert (
        from_environment.server.api_key
        and from_environment.server.api_key.reveal() == "sk-environment"
    )
    assert from_file.server.api_key and from_file.server.api_key.reveal() == "sk-file"
    assert "sk-" not in repr(from_file) + str(from_file.server.api_key)
    with pytest.raises(TypeError):
        msgspec.json.encode(from_file)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("two words", "no HTTP header", id="blank"),
        pytest.param("one\ntwo", "no HTTP header", id="two-lines"),
        pytest.param("schlüssel", "no HTTP header", id="not-ascii"),
    ],
)
def test_a_key_that_no_header_can_hold(
    run: FakeRun, tmp_path: Path, text: str, complaint: str
) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    result = typed("--api-key-file", str(file))
    assert result.exit_code == 2 and complaint in result.stderr
    assert not text or text not in result.stderr


def test_a_key_file_that_others_can_read_is_refused(run: FakeRun, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k")
    file.chmod(0o644)
    result = typed("--api-key-file", str(file))
    assert result.exit_code == 2
    assert run.options is None
    assert f"chmod 600 {file}" in result.stderr


@pytest.mark.parametrize(
    ("limit", "failed", "code"),
    [
        pytest.param("0", 0, 0, id="none-failed"),
        pytest.param("0", 1, 1, id="one-failed"),
        pytest.param("2", 2, 0, id="as-many-as-allowed"),
        pytest.param("2", 3, 1, id="one-more"),
        pytest.param("20%", 2, 0, id="share"),
        pytest.param("19%", 2, 1, id="above-share"),
        pytest.param("100%", 10, 0, id="all"),
    ],
)
def test_the_exit_code_is_by_max_failures(run: FakeRun, limit: str, failed: int, code: int) -> None:
    run.outcome = RunOutcome((), (), failed=failed, total=10)
    result = typed("--max-failures", limit)
    assert result.exit_code == code
    assert ("requests failed" in result.stderr) == bool(code)


@pytest.mark.parametrize("text", ["", "%", "1.5", "nan%", "-1%", "two"])
def test_an_invalid_failure_limit_is_refused(text: str) -> None:
    with pytest.raises(errors.BadInput, match="max-failures"):
        parse_failure_limit(text)


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        pytest.param(errors.Unreachable("http://h: nobody"), 1, "http://h: nobody", id="server"),
        pytest.param(errors.BadInput("trace: line 3"), 2, "trace: line 3", id="file"),
        pytest.param(KeyboardInterrupt(), 130, "Aborted", id="ctrl-c-before"),
        pytest.param(
            RunOutcome((), (), failed=9, total=10, interrupted=True), 130, "", id="ctrl-c-within"
        ),
    ],
)
def test_the_exit_code_and_message_of_a_run(
    run: FakeRun, outcome: RunOutcome | BaseException, code: int, line: str
) -> None:
    run.outcome = outcome
    result = typed()
    assert result.exit_code == code
    assert line in result.stderr
    assert "Traceback" not in result.output


def test_help_has_headings_and_examples() -> None:
    result = typed("--help").output
    headings = ["Profile:", "Load:", "Prompts:", "Server:", "Measure:", "Output:", "Examples:"]
    places = [result.index(heading) for heading in headings]
    assert places == sorted(places)
    assert max(map(len, result.splitlines())) <= 80


def test_no_option_takes_a_secret() -> None:
    command = main.get_command(click.Context(main), "run")
    assert command is not None
    names = {name for param in command.params for name in param.opts}
    assert "--api-key-file" in names
    assert not names & {"--api-key", "--key", "--token"}


def test_profiles_as_a_table_and_as_json(run: FakeRun, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[mine]\nnum_prompts = 3\ninput_len = 4\noutput_len = 5\n")
    result = CliRunner().invoke(main, ["profiles", "--profiles", str(file)])
    assert result.exit_code == 0
    assert [*(line.split()[0] for line in result.output.splitlines() if "none" in line)][-1] == (
        "mine"
    )
    result = CliRunner().invoke(main, ["profiles", "--json"])
    names = [profile["name"] for profile in json.loads(result.output)]
    assert names == [*profile_catalog()] and "quick" in names


def test_a_user_profile_can_be_given(run: FakeRun, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[mine]\nnum_prompts = 3\ninput_len = 4\noutput_len = 5\n")
    assert options(run, "mine", "--profiles", str(file)).load.profile.num_prompts == 3


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        pytest.param(["--version"], 0, "spark-bench, version", id="version"),
        pytest.param(["run", "-n", "0"], 2, "Error: ", id="refused"),
        pytest.param(
            ["rnu"], 2, "'rnu' (did you mean run?); there are: run, quality", id="no-command"
        ),
        pytest.param([], 2, "Commands:", id="nothing"),
    ],
)
def test_spark_bench_runs_as_a_module(words: list[str], code: int, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spark_bench", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(spark_bench.__file__).parents[1])},
    )
    assert done.returncode == code
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "written", "as_json"),
    [
        pytest.param([], ("x.json",), False, id="tables"),
        pytest.param(["--json"], ("x.json",), True, id="json"),
        pytest.param([], (), True, id="not-written-so-not-lost"),
        pytest.param(["--quiet"], (), True, id="quiet-and-not-written"),
    ],
)
def test_stdout_gets_only_the_requested_output(
    run: FakeRun, words: list[str], written: tuple[str, ...], as_json: bool
) -> None:
    result = a_result()
    run.outcome = RunOutcome(
        (result,), tuple(map(Path, written)), failed=0, total=10, notes=("the disk is full",)
    )
    done = typed(*words)
    assert done.exit_code == 0
    assert "the disk is full" in done.stderr
    tables = done.stderr if as_json else done.stdout
    assert ("TTFT" in tables) == ("--quiet" not in words)
    if as_json:
        assert decode_result(done.stdout_bytes) == result

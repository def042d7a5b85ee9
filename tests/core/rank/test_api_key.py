"""The API key: which file is used, what a rank gets of it, and that no plan holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from launch_findings import check_declared
from samples import specs_of, want

from cluster.engine import serving
from cluster.engine.serving import EndpointReply, GroupAnswers
from cluster.findings import Refused
from cluster.rank import api_key, docker
from cluster.rank.spec import label_drift
from control.secrets import find_api_key

KEY = "sk-planted0key"


def written(path: Path, text: str = f"{KEY}\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(key_file: Path) -> str:
    with pytest.raises(Refused) as caught:
        find_api_key(str(key_file))
    (finding,) = caught.value.findings
    assert finding.cure
    assert KEY not in str(finding)
    return finding.what


def test_no_file_is_no_key() -> None:
    assert find_api_key("") == ""


def test_a_key_file_holds_exactly_one_line(tmp_path: Path) -> None:
    assert find_api_key(str(written(tmp_path / "k"))) == KEY


def test_a_tilde_is_this_machines_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path / "k")
    assert find_api_key("~/k") == KEY


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o622])
def test_an_api_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    assert "can be read by others" in refused(written(tmp_path / "k", mode=mode))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param(" \n\n", "is empty", id="blanks alone"),
        pytest.param(f"{KEY}\n{KEY}\n", "holds more than a key", id="two lines"),
        pytest.param(f"Bearer {KEY}", "holds more than a key", id="a blank inside"),
        pytest.param(f"{KEY}\tx", "holds more than a key", id="a tab inside"),
        pytest.param(f"{KEY}ü", "holds more than a key", id="not ASCII"),
    ],
)
def test_a_key_no_header_can_carry_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(written(tmp_path / "k", text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "is not a file" in refused(tmp_path / "gone")


# ---- what a rank gets


def test_rank_0_alone_has_the_key_mounted() -> None:
    specs = specs_of(api_key_file="~/k", group="blue")
    mounted = [api_key.is_keyed(spec.volumes) for spec in specs.values()]
    assert mounted == [True, False]
    mount = "/var/lib/spark-serving/blue:/run/secrets/spark-serving-api:ro"
    assert mount in next(iter(specs.values())).volumes


def test_a_spec_records_that_a_key_exists_not_its_file() -> None:
    spec = specs_of(api_key_file="/secret/place")["spark-1"]
    assert "/secret/place" not in spec.dump()
    assert spec == specs_of(api_key_file="/another/place")["spark-1"]


def test_requiring_a_key_is_reported_as_drift() -> None:
    open_, closed = specs_of()["spark-1"], specs_of(api_key_file="~/k")["spark-1"]
    (reason,) = label_drift(open_.dump(), closed)
    assert reason.startswith("volume /run/secrets/spark-serving-api: (none) -> ")


def test_the_launcher_takes_the_words_that_sglang_would_get() -> None:
    plain = docker.create(specs_of()["spark-1"]).argv
    command = docker.create(specs_of(api_key_file="~/k")["spark-1"]).argv
    at = command.index("sglang.launch_server")
    assert command[at - 3 : at - 1] == ("python3", "-c")
    assert command[at:] == plain[plain.index("sglang.launch_server") :]
    assert plain[plain.index("sglang.launch_server") - 2 :][:2] == ("python3", "-m")


def test_a_key_does_not_change_the_workers_command() -> None:
    specs = specs_of(api_key_file="~/k")
    assert docker.create(specs["spark-2"]) == docker.create(specs_of()["spark-2"])


def test_the_embedded_engine_has_no_key() -> None:
    lines = check_declared(
        count=1, model="smollm2", runtime="process", api_key_file="~/k", version=""
    )
    assert any(line.startswith("error api_key_file needs runtime = 'docker'") for line in lines), (
        lines
    )


def test_the_cure_of_a_key_in_extra_args_is_the_setting() -> None:
    (line,) = check_declared(model="qwen7b", extra_args=["--api-key", KEY])
    assert line.endswith("-> --data api_key_file=FILE, a 0600 file here that holds the key")


def test_every_node_agrees_on_it() -> None:
    assert want(2, api_key_file="~/k").common.api_key_file == "~/k"


# ---- what the answers mean


def answered(models: int = 200, keyless: int = 401) -> GroupAnswers:
    listed = EndpointReply(models, '{"data": [{"id": "m"}]}')
    completion = EndpointReply(200, '{"choices": [], "usage": {"completion_tokens": 1}}')
    return GroupAnswers((EndpointReply(200),), listed, completion, keyless=keyless)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        pytest.param({}, [], id="asks for the key"),
        pytest.param({"keyless": 0}, [], id="wants none"),
        pytest.param(
            {"models": 401}, ["api key: changed (/v1/models answers 401)"], id="another key"
        ),
        pytest.param({"keyless": 200}, ["the API answers requests without a key"], id="open"),
    ],
)
def test_an_api_with_a_key(answers: dict[str, Any], words: list[str]) -> None:
    served = answered(**answers)
    assert [f.what for f in serving.serving_problems(served, ("a",), "m")] == words
    assert serving.locked(served) == (answers.get("models") == 401)

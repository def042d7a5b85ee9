"""Profiles: ours, single-field overrides, the user's files, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from spark_bench.errors import BadInput
from spark_bench.load.profile import Profile, find_profile, profile_catalog, user_file

OURS = {
    "quick": (10, 128, 128, None, None),
    "short": (50, 256, 256, None, None),
    "medium": (100, 512, 512, None, None),
    "long": (200, 1024, 1024, None, None),
    "throughput": (500, 256, 256, None, 64),
    "latency": (100, 128, 128, 2, None),
    "stress": (1000, 512, 512, None, 128),
    "mixed": (120, 256, 256, None, 8),
    "depth": (3, 2048, 32, None, 1),
}
FIELDS = ("num_prompts", "input_len", "output_len", "request_rate", "concurrency")
GOOD = "num_prompts = 4\ninput_len = 5\noutput_len = 6\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for the user's settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def values(profile: Profile) -> tuple[object, ...]:
    return tuple(getattr(profile, field) for field in FIELDS)


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refusal(function: object, *arguments: object, **named: object) -> str:
    with pytest.raises(BadInput) as caught:
        function(*arguments, **named)  # type: ignore[operator]
    assert "\n" not in caught.value.message
    return caught.value.message


def test_our_profiles() -> None:
    assert {name: values(profile) for name, profile in profile_catalog().items()} == OURS
    assert all(profile.use.endswith((".", "?")) for profile in profile_catalog().values())


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_prompts", 2000),
        ("input_len", 7),
        ("output_len", 9),
        ("request_rate", 0.5),
        ("concurrency", 3),
    ],
)
def test_an_override_keeps_the_rest(name: str, field: str, value: object) -> None:
    before = find_profile(name)
    after = before.with_(**{field: value})  # type: ignore[arg-type]
    assert getattr(after, field) == value
    others = [other for other in (*FIELDS, "name", "use") if other != field]
    assert [getattr(after, other) for other in others] == [
        getattr(before, other) for other in others
    ]


def test_no_override_changes_nothing() -> None:
    assert find_profile("throughput").with_() == find_profile("throughput")


@pytest.mark.parametrize("rate", ["inf", math.inf])
def test_inf_lifts_the_rate(rate: float | str) -> None:
    assert find_profile("latency").with_(request_rate=rate) == Profile(
        "latency", 100, 128, 128, use=find_profile("latency").use
    )


def test_none_lifts_the_concurrency() -> None:
    assert values(find_profile("stress").with_(concurrency="none")) == (1000, 512, 512, None, None)


def test_overrides_as_text() -> None:
    profile = find_profile("quick").with_(request_rate="2.5", concurrency="4")
    assert values(profile) == (10, 128, 128, 2.5, 4)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"num_prompts": 0}, ["--num-prompts: 0 ", "1 or more"]),
        ({"num_prompts": True}, ["--num-prompts: True ", "whole number"]),
        ({"input_len": -1}, ["--input-len: -1 ", "1 or more"]),
        ({"input_len": 1.5}, ["--input-len: 1.5 ", "whole number"]),
        ({"output_len": 0}, ["--output-len: 0 ", "1 or more"]),
        ({"request_rate": 0}, ["--request-rate: 0 ", "above 0", '"inf"']),
        ({"request_rate": -2.0}, ["--request-rate: -2.0 ", "above 0"]),
        ({"request_rate": math.nan}, ["--request-rate: nan ", "above 0"]),
        ({"request_rate": "-inf"}, ["--request-rate: -inf ", "above 0"]),
        ({"request_rate": "fast"}, ["--request-rate: 'fast' ", "above 0"]),
        ({"concurrency": 0}, ["--concurrency: 0 ", "1 or more", '"none"']),
        ({"concurrency": "many"}, ["--concurrency: 'many' ", "1 or more"]),
        ({"concurrency": 11}, ["--concurrency: 11 ", "prompts (10)", "(--num-prompts) to 11"]),
    ],
)
def test_an_override_that_is_refused(override: dict[str, object], words: list[str]) -> None:
    message = refusal(find_profile("quick").with_, **override)
    assert [word for word in words if word not in message] == []


def test_fewer_prompts_than_the_profile_has_slots() -> None:
    message = refusal(find_profile("throughput").with_, num_prompts=10)
    assert "profile 'throughput', concurrency: 64 " in message
    assert "prompts (10)" in message


def test_an_infinite_rate_means_no_limit() -> None:
    assert "request_rate: inf " in refusal(Profile, "x", 1, 1, 1, request_rate=math.inf)


def test_an_unknown_profile() -> None:
    message = refusal(find_profile, "Thruput")
    assert "did you mean throughput" in message
    assert all(name in message for name in OURS)
    assert "did you mean" not in refusal(find_profile, "zzz")


def test_a_file_adds_and_replaces(home: Path) -> None:
    first = written(home / "1.toml", f"[mine]\n{GOOD}[quick]\n{GOOD}")
    second = written(home / "2.toml", f"[mine]\n{GOOD}concurrency = 2\nrequest_rate = 'inf'\n")
    catalog = profile_catalog([first, second])
    assert values(catalog["mine"]) == (4, 5, 6, None, 2)
    assert values(catalog["quick"]) == (4, 5, 6, None, None)
    assert set(catalog) == {*OURS, "mine"}


def test_the_users_own_file(home: Path) -> None:
    file = written(home / "config" / "spark-bench" / "profiles.toml", f"[mine]\n{GOOD}")
    assert user_file() == file
    assert values(find_profile("mine")) == (4, 5, 6, None, None)


@pytest.mark.parametrize("configured", ["", "relative"])
def test_the_users_own_file_by_default(
    home: Path, monkeypatch: pytest.MonkeyPatch, configured: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", configured)
    monkeypatch.setenv("HOME", str(home))
    assert user_file() == home / ".config/spark-bench/profiles.toml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            "[mine]\n", ["'mine'", "lacks num_prompts, input_len, output_len"], id="empty"
        ),
        pytest.param(
            "[mine]\nnum_prompt = 4\n", ["'num_prompt'", "mean num_prompts", "allowed"], id="typo"
        ),
        pytest.param(f"[mine]\nname = 'x'\n{GOOD}", ["'name'", "allowed are"], id="name"),
        pytest.param(
            f"[mine]\n{GOOD}concurrency = 5\n", ["'concurrency'", "5", "prompts (4)"], id="slots"
        ),
        pytest.param(
            f"[mine]\n{GOOD}request_rate = nan\n", ["'request_rate'", "nan", "above 0"], id="nan"
        ),
        pytest.param(f"[mine]\n{GOOD}request_rate = true\n", ["'request_rate'", "True"], id="bool"),
        pytest.param(f"[mine]\n{GOOD}use = 3\n", ["'use'", "3", "sentence"], id="use"),
        pytest.param(
            "[mine]\nnum_prompts = '4'\ninput_len = 5\noutput_len = 6\n",
            ["'num_prompts'", "'4'", "whole number"],
            id="text",
        ),
        pytest.param("num_prompts = 4\n", ["'num_prompts'", "below a [NAME]"], id="outside"),
        pytest.param("[mine\n", ["not TOML", "line 1"], id="not toml"),
    ],
)
def test_a_file_that_is_refused(home: Path, text: str, words: list[str]) -> None:
    file = written(home / "mine.toml", text)
    message = refusal(profile_catalog, [file])
    assert [word for word in [str(file), *words] if word not in message] == []


def test_a_missing_file(home: Path) -> None:
    assert "No such file" in refusal(profile_catalog, [home / "none.toml"])


def test_a_file_that_is_not_text(home: Path) -> None:
    file = home / "mine.toml"
    file.write_bytes(b"\xff\xfe")
    assert "not TOML" in refusal(profile_catalog, [file])

"""Where the Hugging Face token comes from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.findings import Refused
from control.secrets import find_token


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without a token, and an environment without one."""
    for name in ("HF_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def written(path: Path, text: str = "hf_file\n", mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(token_file: Path | str) -> str:
    with pytest.raises(Refused) as caught:
        find_token(str(token_file))
    (finding,) = caught.value.findings
    assert finding.cure
    assert "hf_file" not in str(finding)
    return finding.what


def test_no_token_is_found() -> None:
    assert find_token("") == ""


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", " hf_env\n")
    assert find_token(str(written(tmp_path / "t"))) == "hf_env"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "  ")
    assert find_token("") == ""


def test_the_named_file(tmp_path: Path) -> None:
    assert find_token(str(written(tmp_path / "t"))) == "hf_file"


def test_a_tilde_is_this_machines_home(nowhere: Path) -> None:
    written(nowhere / "secret/t")
    assert find_token("~/secret/t") == "hf_file"


def test_the_token_of_hf_auth_login_is_found(nowhere: Path) -> None:
    written(nowhere / ".cache/huggingface/token", "hf_usual\n")
    assert find_token("") == "hf_usual"


def test_hf_token_path_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", str(written(tmp_path / "elsewhere", "hf_there")))
    assert find_token("") == "hf_there"


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    assert "is not a file" in refused(tmp_path / "gone")


def test_a_folder_is_no_token(tmp_path: Path) -> None:
    assert "is not a file" in refused(tmp_path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    assert "can be read by others" in refused(written(tmp_path / "t", mode=mode))


def test_an_empty_file(tmp_path: Path) -> None:
    assert "is empty" in refused(written(tmp_path / "t", "\n"))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t")
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused(path)

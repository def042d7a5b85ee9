"""What a comparison of some clients installs, and nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
from peers import __main__ as peers, install


@pytest.mark.parametrize(
    ("words", "installed"),
    [
        pytest.param([], ["sglang", "vllm", "aiperf"], id="all"),
        pytest.param(["--clients", "spark-bench,sglang Rust"], ["sglang"], id="two"),
        pytest.param(["--clients", "spark-bench, spark-bench off"], [], id="ours"),
        pytest.param(["--clients", "aiperf,vLLM"], ["vllm", "aiperf"], id="theirs"),
    ],
)
def test_what_is_compared_is_installed(
    words: list[str], installed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(places: install.Places, folder: Path) -> None:
        folder.mkdir(parents=True)
        made.append(folder.name)

    for name in ("_sglang", "_vllm", "_aiperf"):
        monkeypatch.setattr(install, name, make)
    options = peers._options(words)
    places = install.Places(tmp_path, tmp_path)
    packages = {kind.package for kind in options.clients}
    assert install.install(packages, places) == []
    assert made == installed
    assert install.install(packages, places) == [] and made == installed, "installed once"


def test_an_unknown_client_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        peers._options(["--clients", "spark-bench,sglang rust"])
    assert ended.value.code == 2
    assert "no client sglang rust: give spark-bench," in capsys.readouterr().err

"""spark-cluster init: what it takes, writes and reports. The nodes' answer is faked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from cluster_documents import probed
from spark_cluster import commands, init as cli_init
from spark_cluster.init import InventoryText
from spark_cluster.main import main
from spark_cluster.project import Project

QWEN7B = "Qwen/Qwen2.5-7B-Instruct"


class FakeNodes:
    """Answers for the project: the probe's document, and the listing's model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes = [probed("spark-1"), probed("spark-2")]
        self.findings: list[dict[str, str]] = []
        self.drafts: list[str] = []
        monkeypatch.setattr(Project, "fetch", self.ask)

    def ask(self, deploy: str, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        if deploy == "probe":
            self.drafts.append(Path(data["inventory"]).read_text())
            return {"nodes": self.nodes, "findings": self.findings}
        return {"model": QWEN7B, "variant": "spark"}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> FakeNodes:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return FakeNodes(monkeypatch)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def init(out: Path, *words: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["init", "--output", str(out), *words], input=typed)


PAIR = ("--head", "spark-1", "--worker", "spark-2", "--model", "qwen7b")


def variables(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    return namespace


def test_the_written_inventory_holds_the_given_settings(nodes: FakeNodes, out: Path) -> None:
    done = init(out, *PAIR, "--user", "nvidia", "--data", "ssh_port=2222", "--data", "rdma=off")
    assert done.exit_code == 0, done.output
    settings = {
        "model": "qwen7b",
        "hf_cache": "/raid/hf-cache",
        "ssh_user": "nvidia",
        "ssh_port": 2222,
        "rdma": "off",
    }
    data = variables(out.read_text())
    assert (data["head"], data["workers"]) == ((["spark-1"], settings), (["spark-2"], settings))
    assert nodes.drafts[0].partition('"""\n')[2] == out.read_text().partition('"""\n')[2]
    assert f"pyinfra -y {out} deploy.py" in done.output
    assert "NVIDIA GB10  580.126.09" in done.output


def test_one_spark_has_no_workers(nodes: FakeNodes, out: Path) -> None:
    nodes.nodes = [probed("@local")]
    assert init(out, "--head", "@local", "--model", "3").exit_code == 0
    data = variables(out.read_text())
    assert (data["head"][0], data["workers"][0]) == (["@local"], [])
    assert data["SETTINGS"]["model"] == "qwen7b"


def test_a_file_that_is_there_is_kept(nodes: FakeNodes, out: Path) -> None:
    out.write_text("mine")
    done = init(out, *PAIR, "--yes")
    assert (done.exit_code, out.read_text(), nodes.drafts) == (1, "mine", [])
    assert "overwrite it with --force" in done.stderr


def test_force_overwrites(nodes: FakeNodes, out: Path) -> None:
    out.write_text("mine")
    assert init(out, *PAIR, "--force").exit_code == 0
    assert "spark-2" in out.read_text()


@pytest.mark.parametrize(
    ("answer", "code"), [pytest.param("n\n", 130, id="no"), pytest.param("y\n", 0, id="yes")]
)
def test_on_a_terminal_it_prompts_before_it_overwrites(
    nodes: FakeNodes, out: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr(commands, "on_terminal", lambda: True)
    out.write_text("mine")
    done = init(out, *PAIR, "--user", "me", "--hf-cache", "/raid/hf-cache", typed=answer)
    assert done.exit_code == code
    assert "already exists. Overwrite it?" in done.output
    assert (out.read_text() == "mine") is (code != 0)


def test_on_a_terminal_it_prompts_for_what_is_not_given(
    nodes: FakeNodes, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "on_terminal", lambda: True)
    monkeypatch.setattr(cli_init, "is_spark", lambda: False)
    answers = ["me@spark-1", "spark-1", "spark-2", "nvidia", "hf", "/data/hf", "qwen7c", "qwen7b"]
    done = init(out, typed="\n".join([*answers, ""]))
    assert done.exit_code == 0, done.output
    data = variables(out.read_text())
    assert (data["head"][0], data["workers"][0]) == (["spark-1"], ["spark-2"])
    settings = {"model": "qwen7b", "hf_cache": "/data/hf", "ssh_user": "nvidia"}
    assert data["SETTINGS"] == settings
    assert "the user has an option of its own: spark-1 --user me" in done.stderr
    assert "hf: give an absolute path" in done.stderr
    assert "did you mean qwen7b" in done.stderr


def test_a_key_is_made_in_a_file_of_its_own(
    nodes: FakeNodes, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key_file = tmp_path / ".config" / "spark-serving" / "mine.key"
    first = init(out, *PAIR, "--make-key")
    key = key_file.read_text()
    assert (key_file.stat().st_mode & 0o777, key_file.parent.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    assert len(key.strip()) == 64
    data = variables(out.read_text())
    assert data["SETTINGS"]["api_key_file"] == "~/.config/spark-serving/mine.key"
    again = init(out, *PAIR, "--make-key", "--force")
    assert key_file.read_text() == key
    assert key.strip() not in first.output + again.output + out.read_text() + "".join(nodes.drafts)


@pytest.mark.parametrize(("answer", "keyed"), [("y", True), ("n", False)])
def test_on_a_terminal_a_key_is_offered(
    nodes: FakeNodes,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: str,
    keyed: bool,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(commands, "on_terminal", lambda: True)
    done = init(out, *PAIR, "--user", "me", "--hf-cache", "/raid/hf-cache", typed=f"{answer}\n")
    assert done.exit_code == 0
    assert "Create an API key?" in done.output
    assert ("api_key_file" in variables(out.read_text())["SETTINGS"]) is keyed
    assert f"pyinfra -y {out} deploys/firewall.py" in done.output


@pytest.mark.parametrize("given", ["host=127.0.0.1", "runtime=process", "api_key_file=~/mine.key"])
def test_no_key_is_offered_where_none_is_wanted(
    nodes: FakeNodes, out: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(commands, "on_terminal", lambda: True)
    done = init(out, *PAIR, "--user", "me", "--hf-cache", "/raid/hf-cache", "--data", given)
    assert done.exit_code == 0
    assert "Create a key" not in done.output


def test_without_a_terminal_the_head_must_be_named(nodes: FakeNodes, out: Path) -> None:
    done = init(out)
    assert (done.exit_code, out.exists()) == (2, False)
    assert "--head NAME" in done.stderr


def test_a_silent_node_leaves_nothing_behind(nodes: FakeNodes, out: Path) -> None:
    lost = {"lost": "Authentication error (username=me)", "cure": "ssh-copy-id me@spark-2"}
    nodes.nodes[1] = probed("spark-2", **lost)
    done = init(out, *PAIR)
    assert (done.exit_code, out.exists()) == (1, False)
    assert "spark-2: Authentication error (username=me) -> ssh-copy-id me@spark-2\n" in done.stderr


def test_init_reports_what_a_node_lacks_and_still_writes(nodes: FakeNodes, out: Path) -> None:
    nodes.findings = [
        {"level": "ok", "what": "Docker 29.1.0", "where": "spark-1", "cure": ""},
        {"level": "warning", "what": "half rate", "where": "", "cure": ""},
        {"level": "error", "what": "hf_cache /raid/hf-cache does not exist", "where": "spark-1",
         "cure": "sudo mkdir -p /raid/hf-cache"},
    ]  # fmt: skip
    done = init(out, *PAIR)
    assert (done.exit_code, out.exists()) == (1, True)
    assert (
        "  error  spark-1: hf_cache /raid/hf-cache does not exist -> sudo mkdir -p /raid/hf-cache"
        in done.output.splitlines()
    )
    assert "warning  half rate" in done.output
    assert "Docker 29.1.0\n" not in done.output.partition("written:")[2]
    assert f"spark-cluster check -i {out}" in done.output


def test_a_token_is_referenced_but_never_written(
    nodes: FakeNodes, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    done = init(out, *PAIR)
    assert "HF_TOKEN is set in this shell" in done.output
    assert "hf_planted" not in out.read_text() + done.output + nodes.drafts[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("--data", "ssh_password=x"), "no place for a secret", id="password"),
        pytest.param(("--data", "hf_token=x"), "no place for a secret", id="token"),
        pytest.param(("--data", "model=x"), "an option of its own: --model", id="an-option"),
        pytest.param(("--data", "port"), "give NAME=VALUE", id="no-value"),
        pytest.param(("--head", "a b"), "is neither a name for `ssh NAME`", id="a-space"),
        pytest.param(("--head", 'x"]; import os'), "is neither a name for `ssh NAME`", id="code"),
        pytest.param(("--output", "x.txt"), "ends in .py", id="no-python"),
        pytest.param(("--output", "all.py"), "ends in .py", id="a-groups-name"),
        pytest.param(("--output", "no/such/x.py"), "there is no folder", id="no-folder"),
    ],
)
def test_an_inventory_that_cannot_be_written_is_refused(
    nodes: FakeNodes, out: Path, words: tuple[str, ...], message: str
) -> None:
    done = init(out, *PAIR, *words)
    assert (done.exit_code, out.exists(), nodes.drafts) == (2, False, [])
    assert message in done.stderr


def test_a_file_with_a_token_is_no_secret() -> None:
    assert cli_init.parse_assignments(["hf_token_file=~/t", "offline=true", "port=31000"]) == {
        "hf_token_file": "~/t",
        "offline": True,
        "port": 31000,
    }


def test_any_text_stays_text() -> None:
    odd = 'a"b\\c\n'
    text = InventoryText(
        "spark-1", (), "qwen7b", "/x", data={"env": {"A": odd}, "image": odd}
    ).text("f")
    assert variables(text)["SETTINGS"]["image"] == odd
    assert variables(text)["SETTINGS"]["env"] == {"A": odd}


def test_a_node_may_be_an_address() -> None:
    assert [cli_init.node_name(n) for n in ("10.0.0.5", "fd00::5", "@local", "spark-1.lan")]
    with pytest.raises(click.BadParameter):
        cli_init.node_name("-oProxyCommand=x")

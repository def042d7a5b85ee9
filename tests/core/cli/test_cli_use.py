"""spark-cluster use: what is written where, and that a choice that does not hold leaves nothing.

The project's two answers are faked; the files are real.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from spark_cluster import commands
from spark_cluster.choice import group_file
from spark_cluster.main import main
from spark_cluster.project import Project

from cluster.catalog.models import find_model
from cluster.settings.resolve import choose_variant

PLAIN = 'head = ["spark-1"]\nworkers = ["spark-2"]\n'
SHARED = 'S = {"model": "gpt-oss-120b"}  # ours\nhead = (["spark-1"], S)\n'


class FakeProject:
    """The verdict is `errors`; what is read back is what was written last, or `stronger`."""

    def __init__(self, inventory: Path) -> None:
        self.inventory = inventory
        self.errors: list[str] = []
        self.stronger = self.stronger_variant = ""

    def ask(self, _: Project, deploy: str, data: dict[str, Any], **__: Any) -> dict[str, Any]:
        if deploy == "feasible":
            verdict = {"errors": self.errors, "weight_bytes": 15231233024, "nodes": 2}
            return {"verdicts": [verdict]}
        model = find_model(self.stronger or self.written("model"))
        variant = choose_variant(model, self.stronger_variant or self.written("variant") or "auto")
        return {"model": model.id, "variant": variant.name if variant else ""}

    def written(self, setting: str) -> str:
        """The value that the inventory and its group data have last; "": none."""
        files = [f for f in (self.inventory, group_file(self.inventory)) if f.is_file()]
        output = "".join(f.read_text() for f in files)
        match = re.findall(rf'{setting}"?\s*[:=]\s*"([^"]+)"', output)
        return match[-1] if match else ""


Made = Callable[[str], FakeProject]


@pytest.fixture
def make_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    def make(source: str) -> FakeProject:
        inventory = tmp_path / "mine.py"
        inventory.write_text(source)
        fake = FakeProject(inventory)
        monkeypatch.setattr(Project, "fetch", lambda self, *a, **k: fake.ask(self, *a, **k))
        return fake

    return make


def run(fake: FakeProject, *words: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["use", *words, "-i", str(fake.inventory)], input=typed)


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("qwen7b", id="alias"),
        pytest.param("3", id="number"),
        pytest.param("Qwen/Qwen2.5-7B-Instruct", id="id"),
    ],
)
def test_an_inventory_without_a_model_keeps_every_byte(make_project: Made, word: str) -> None:
    fake = make_project(PLAIN)
    done = run(fake, word)
    assert done.exit_code == 0, done.output
    assert fake.inventory.read_text() == PLAIN
    assert group_file(fake.inventory).read_text().endswith('\n\nmodel = "qwen7b"\n')
    assert '+model = "qwen7b"' in done.output
    assert (
        "chosen: Qwen/Qwen2.5-7B-Instruct, 15.2 GB, variant spark (reported), on 2 node(s)"
        in done.output
    )
    assert "mine.py deploy.py" in done.output


def test_a_model_in_the_inventory_is_changed_there(make_project: Made) -> None:
    fake = make_project(SHARED)
    done = run(fake, "qwen7b")
    assert fake.inventory.read_text() == SHARED.replace("gpt-oss-120b", "qwen7b")
    assert not group_file(fake.inventory).exists()
    assert '-S = {"model": "gpt-oss-120b"}' in done.output


def test_both_places_are_changed_so_that_they_agree(make_project: Made) -> None:
    fake = make_project(SHARED)
    group = group_file(fake.inventory)
    group.parent.mkdir()
    group.write_text('port = 31000\nmodel = "nemo"  # for now\n')
    assert run(fake, "qwen7b").exit_code == 0
    assert group.read_text() == 'port = 31000\nmodel = "qwen7b"  # for now\n'
    assert '"qwen7b"' in fake.inventory.read_text()


def test_the_same_choice_again_writes_nothing(make_project: Made) -> None:
    fake = make_project(SHARED)
    run(fake, "qwen7b")
    before = fake.inventory.stat().st_mtime_ns
    done = run(fake, "qwen7b")
    assert (done.exit_code, fake.inventory.stat().st_mtime_ns) == (0, before)
    assert "nothing to write: it is chosen already" in done.output


def test_a_file_keeps_its_mode_and_a_link_stays_one(make_project: Made, tmp_path: Path) -> None:
    fake = make_project(SHARED)
    real = tmp_path / "real.py"
    fake.inventory.rename(real)
    real.chmod(0o600)
    fake.inventory.symlink_to(real)
    assert run(fake, "qwen7b").exit_code == 0
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert '"qwen7b"' in real.read_text()


def test_what_a_deploy_would_refuse_is_not_written(make_project: Made) -> None:
    fake = make_project(SHARED)
    fake.errors = ["qwen72b does not fit: 145.4 GB of weights"]
    done = run(fake, "qwen72b")
    assert (done.exit_code, fake.inventory.read_text()) == (1, SHARED)
    assert done.stderr == (
        "spark-cluster: nothing was written:\nqwen72b does not fit: 145.4 GB of weights\n"
    )


@pytest.mark.parametrize("source", [pytest.param(PLAIN, id="new"), pytest.param(SHARED, id="old")])
def test_a_stronger_setting_is_named_and_nothing_is_changed(
    make_project: Made, source: str
) -> None:
    fake = make_project(source)
    folder = group_file(fake.inventory).parent
    folder.mkdir()
    (folder / "head.py").write_text('model = "nemo"\n')
    fake.stronger = "mistralai/Mistral-Nemo-Instruct-2407"
    done = run(fake, "qwen7b")
    assert done.exit_code == 1
    pattern = r"a stronger setting makes the model mistralai/\S+: look in \S+/head\.py"
    assert re.search(pattern, done.stderr)
    assert fake.inventory.read_text() == source
    assert [file.name for file in folder.iterdir()] == ["head.py"]


def test_a_variant_is_written_beside_the_model(make_project: Made) -> None:
    fake = make_project(SHARED)
    done = run(fake, "qwen38-27b", "--variant", "dspark")
    assert done.exit_code == 0, done.output
    assert '"qwen38-27b"' in fake.inventory.read_text()
    assert group_file(fake.inventory).read_text().endswith('variant = "dspark"\n')
    assert "variant dspark (verified upstream)" in done.output
    run(fake, "qwen38-27b", "--variant", "eagle")
    assert group_file(fake.inventory).read_text().count("variant = ") == 1
    assert fake.written("variant") == "eagle"


def test_a_declared_variant_stays_for_a_model_that_has_it(make_project: Made) -> None:
    fake = make_project('S = {"model": "qwen38-27b", "variant": "dspark"}\n')
    done = run(fake, "qwen38-27b-fp8")
    assert (done.exit_code, fake.written("variant")) == (0, "dspark")
    assert "auto from now on" not in done.output


def test_another_models_variant_is_removed_and_reported(make_project: Made) -> None:
    fake = make_project('S = {"model": "qwen38-27b", "variant": "dspark"}  # ours\n')
    done = run(fake, "qwen7b")
    assert done.exit_code == 0, done.output
    assert fake.inventory.read_text() == 'S = {"model": "qwen7b", "variant": "auto"}  # ours\n'
    assert "variant dspark is none of qwen7b's: auto from now on" in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(
            ["qwen38-27b", "--variant", "dsparc"],
            "variant = 'dsparc' is none of qwen38-27b's; did you mean dspark?; it has: none, "
            "eagle (default), dspark, dflash2, high-throughput -> spark-cluster use qwen38-27b "
            "--variant none",
            id="unknown",
        ),
        pytest.param(
            ["dsv41-flash"],
            "dsv41-flash has no default variant; it has: reported -> spark-cluster use "
            "dsv41-flash --variant reported",
            id="must-be-chosen",
        ),
        pytest.param(["org/name", "--variant", "x"], "org/name has no variants", id="none"),
    ],
)
def test_a_wrong_variant_writes_nothing(make_project: Made, words: list[str], told: str) -> None:
    fake = make_project(SHARED)
    done = run(fake, *words)
    assert (done.exit_code, fake.inventory.read_text()) == (1, SHARED)
    assert told in done.stderr


def test_a_stronger_variant_is_named_and_nothing_is_changed(make_project: Made) -> None:
    fake = make_project(SHARED)
    folder = group_file(fake.inventory).parent
    folder.mkdir()
    (folder / "head.py").write_text('variant = "eagle"\n')
    fake.stronger_variant = "eagle"
    done = run(fake, "qwen38-27b", "--variant", "dspark")
    assert (done.exit_code, fake.inventory.read_text()) == (1, SHARED)
    assert re.search(r"makes the variant eagle: look in \S+/head\.py", done.stderr)


def test_an_unknown_model_name_suggests_the_nearest(make_project: Made) -> None:
    done = run(make_project(PLAIN), "qwen7c")
    assert done.exit_code == 1
    assert "did you mean qwen7b" in done.stderr
    assert "spark-cluster models lists them" in done.stderr


def test_a_gated_model_is_reported_as_gated(make_project: Made) -> None:
    assert "gated: accept its license" in run(make_project(PLAIN), "llama8b").output


def test_without_a_terminal_a_model_must_be_named(make_project: Made) -> None:
    done = run(make_project(PLAIN))
    assert done.exit_code == 2
    assert "there is no terminal to ask on): gpt-oss-120b, gpt-oss-20b" in done.stderr


def test_on_a_terminal_it_prompts_until_the_answer_is_valid(
    make_project: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "on_terminal", lambda: True)
    fake = make_project(PLAIN)
    done = run(fake, typed="99\n3\n")
    assert done.exit_code == 0, done.output
    assert "numbers are 1 to 40" in done.stderr
    assert "  6  qwen72b        Qwen/Qwen2.5-72B-Instruct" in done.output
    assert fake.written("model") == "qwen7b"


def test_an_unwritable_folder_is_reported(make_project: Made, tmp_path: Path) -> None:
    fake = make_project(PLAIN)
    (tmp_path / "group_data").write_text("a file, where the folder must be")
    done = run(fake, "qwen7b")
    assert done.exit_code == 1
    assert "group_data/mine.py can't be written" in done.stderr

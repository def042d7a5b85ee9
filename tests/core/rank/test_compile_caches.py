"""What a rank compiles outlives its container: where, for whom, and what a first start is."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from samples import IMAGE_ID, OTHER_IMAGE_ID, ran, running, specs_of

from cluster.command import Argv
from cluster.plan.phases import Phases
from cluster.plan.plan import make_plan
from cluster.rank import compile_caches, docker
from cluster.rank.spec import Spec

ROOT = "/raid/hf-cache/spark-serving"
OWN = f"{ROOT}/compile/abababababab"


def words(image_id: str = IMAGE_ID, rank: int = 0, **data: Any) -> Argv:
    return compile_caches.create_argv(list(specs_of(**data).values())[rank], image_id)


def mounts(argv: Argv) -> list[str]:
    return [argv[n + 1] for n, word in enumerate(argv) if word == "--volume"]


def variables(argv: Argv) -> dict[str, str]:
    return dict(argv[n + 1].split("=") for n, word in enumerate(argv) if word == "-e")


def test_each_rank_has_a_folder_of_its_own_for_each_image() -> None:
    assert mounts(words()) == [f"{OWN}/sglang-0/kernels:/var/cache/spark-serving"]
    assert mounts(words(rank=1)) == [f"{OWN}/sglang-1/kernels:/var/cache/spark-serving"]
    assert mounts(words(OTHER_IMAGE_ID)) == [
        f"{ROOT}/compile/cdcdcdcdcdcd/sglang-0/kernels:/var/cache/spark-serving"
    ]
    assert mounts(words(group="blue")) == [f"{OWN}/blue-0/kernels:/var/cache/spark-serving"]
    assert mounts(words(cache_dir="~/kept")) == [
        "/home/me/kept/compile/abababababab/sglang-0/kernels:/var/cache/spark-serving"
    ]


def test_every_compiler_is_led_there_and_the_hub_stays_read_only() -> None:
    spec = specs_of()["spark-1"]
    assert variables(words()) == {
        "CUDA_CACHE_PATH": "/var/cache/spark-serving/cuda",
        "CUTE_DSL_CACHE_DIR": "/var/cache/spark-serving/cute-dsl",
        "FLASHINFER_WORKSPACE_BASE": "/var/cache/spark-serving",
        "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": "/var/cache/spark-serving/flash-attention",
        "TORCHINDUCTOR_CACHE_DIR": "/var/cache/spark-serving/inductor",
        "TRITON_CACHE_DIR": "/var/cache/spark-serving/triton",
        "TVM_FFI_CACHE_DIR": "/var/cache/spark-serving/tvm-ffi",
    }
    created = mounts(docker.create(spec, image_id=IMAGE_ID).argv)
    assert created[0] == "/raid/hf-cache/hub:/root/.cache/huggingface/hub:ro"
    # Nothing but the hub lies in or above the place of a token.
    assert not [m for m in created[1:] if "huggingface" in m or m.endswith((":/root", "/.cache"))]


def test_what_the_owner_declares_wins() -> None:
    own = variables(words(env={"TRITON_CACHE_DIR": "/mine"}, volumes=["/a:/root/.cache"]))
    assert own.keys() == variables(words()).keys() - {
        *("TRITON_CACHE_DIR", "FLASHINFER_WORKSPACE_BASE", "TVM_FFI_CACHE_DIR")
    }


@pytest.mark.parametrize(
    "data",
    [
        {"cache_dir": "none"},
        {"gpus": "none"},
        {"nodes": 1, "model": "smollm2", "runtime": "process"},
    ],
)
def test_without_gpus_or_a_folder_nothing_is_mounted(data: dict[str, Any]) -> None:
    spec = specs_of(**data)["spark-1"]
    assert spec.compile_caches == ""
    assert "compile_caches" not in spec.dump()
    assert compile_caches.create_argv(spec, IMAGE_ID) == ()
    assert compile_caches.create_folder(spec, IMAGE_ID) is None
    assert compile_caches.note_served(spec, IMAGE_ID) is None


@given(st.text(max_size=80))
def test_an_image_id_that_is_none_leads_nowhere(image_id: str) -> None:
    assert compile_caches.folder(ROOT, image_id, "sglang", 0) == ""


@given(st.lists(st.text(max_size=60)))
def test_only_marks_of_ours_are_read(lines: list[str]) -> None:
    mark = compile_caches.served_mark(specs_of()["spark-1"], IMAGE_ID)
    assert mark.startswith("abababababab/sglang-0/served/")
    hostile = ["../../x/served/0", f"/{mark}", f"{mark}\n", mark.replace("-0", "-x"), "*/*/*/*"]
    assert compile_caches.parse_marks([*lines, *hostile, mark, mark]) == (mark,)


def test_a_mark_is_a_models_and_its_variants() -> None:
    spec = specs_of()["spark-1"]
    others = [replace(spec, model="a/b"), replace(spec, variant="fast"), replace(spec, rank=1)]
    marks = {compile_caches.served_mark(s, IMAGE_ID) for s in (spec, *others)}
    assert len({*marks, compile_caches.served_mark(spec, OTHER_IMAGE_ID)}) == 5


# ---- in a switch


def test_the_folders_come_before_anything_stops_and_the_marks_last() -> None:
    old, new = specs_of(), specs_of(mem_fraction=0.7)
    phases = Phases(docker, make_plan(new, running(old), "running"), 30)
    for rank, (node, spec) in enumerate(new.items()):
        (folder,), (mark,) = phases.prepare(node), phases.note_served(node)
        assert folder.argv[-1] == f"{OWN}/sglang-{rank}"
        assert mark.argv == (
            "touch",
            f"{ROOT}/compile/{compile_caches.served_mark(spec, IMAGE_ID)}",
        )


def test_a_group_of_the_version_before_serves_on_and_changes_with_its_next_start() -> None:
    specs = specs_of()
    old = {node: replace(spec, compile_caches="") for node, spec in specs.items()}
    serving = make_plan(specs, running(old), "running")
    assert not serving.changes
    assert Phases(docker, serving, 30).note_served("spark-1") == []
    facts = running(old)
    stopped = ran(old["spark-2"], status="exited", exit_code=0)
    facts["spark-2"] = replace(facts["spark-2"], ranks=(stopped,))
    plan = make_plan(specs, facts, "running")
    assert "spark-2 sglang-worker-1: compile_caches: (none) -> " in "\n".join(plan.lines())


# ---- the script


def prepared(spec: Spec) -> subprocess.CompletedProcess[str]:
    command = compile_caches.create_folder(spec, IMAGE_ID)
    assert command
    return subprocess.run(command.argv, capture_output=True, text=True)


def test_the_login_creates_the_folder_and_may_do_so_again(tmp_path: Path) -> None:
    spec = replace(specs_of()["spark-1"], compile_caches=str(tmp_path / "a b"))
    for _ in range(2):
        assert prepared(spec).returncode == 0
    folder = tmp_path / "a b/compile/abababababab/sglang-0"
    assert sorted(os.listdir(folder)) == ["kernels", "served"]
    note = compile_caches.note_served(spec, IMAGE_ID)
    assert note
    subprocess.run(note.argv, check=True)
    assert len(list(folder.glob("served/*"))) == 1


@pytest.mark.parametrize(
    "link", ["compile", "compile/abababababab", "compile/abababababab/sglang-0"]
)
def test_a_link_in_the_folders_place_is_refused(tmp_path: Path, link: str) -> None:
    spec = replace(specs_of()["spark-1"], compile_caches=str(tmp_path / "root"))
    at, target = tmp_path / "root" / link, tmp_path / "elsewhere"
    at.parent.mkdir(parents=True)
    target.mkdir()
    at.symlink_to(target)
    done = prepared(spec)
    assert done.returncode == 1
    assert f"{at} is a link" in done.stderr
    assert not any(target.iterdir())

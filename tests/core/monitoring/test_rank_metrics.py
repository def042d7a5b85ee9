"""The script that writes whether a rank is meant to serve, with what Docker prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import cluster.monitoring
from cluster.monitoring import metrics_timer

SCRIPT = Path(cluster.monitoring.__file__).with_name("rank_metrics.sh")
START = "2026-11-27T13:40:00.123456789Z"
STARTED = 1795786800
GONE = "Error response from daemon: No such container: sglang-head"


def run(tmp_path: Path, out: str, err: str = "", status: int = 0) -> tuple[int, dict[str, float]]:
    """The exit status, and the samples in the file."""
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\necho '{err}' >&2\necho '{out}'\nexit {status}\n")
    docker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    words = ["sh", SCRIPT, tmp_path, "sglang-head", "600", "1500"]
    done = subprocess.run(words, env=environment, capture_output=True)
    into = tmp_path / "rank.prom"
    lines = into.read_text().splitlines() if into.exists() else []
    samples = [line.split() for line in lines if not line.startswith("#")]
    assert len(lines) == 2 * len(samples)
    return done.returncode, {name.removeprefix("spark_rank_"): float(v) for name, v in samples}


@pytest.mark.parametrize(
    ("printed", "values"),
    [
        pytest.param(f"true {START} 2 unless-stopped", (1, 1, 2, STARTED, 600), id="serves"),
        pytest.param(f"true {START} 0 no", (0, 1, 0, STARTED, 1500), id="a deploy's, loads"),
        pytest.param(f"false {START} 0 no", (0, 0, 0, STARTED, 1500), id="stopped by a deploy"),
        pytest.param(f"false {START} 0 always", (1, 0, 0, STARTED, 600), id="stopped by hand"),
    ],
)
def test_docker_s_words_are_figures(
    tmp_path: Path, printed: str, values: tuple[float, ...]
) -> None:
    status, samples = run(tmp_path, printed, err="WARNING: Error loading config file")
    assert status == 0
    assert samples.pop("samples_timestamp_seconds") > 1.7e9
    names = ("expected", "running", "restarts", "started_timestamp_seconds", "load_limit_seconds")
    assert samples == dict(zip(names, values, strict=True))


def test_a_rank_without_a_container_is_not_meant_to_serve(tmp_path: Path) -> None:
    status, samples = run(tmp_path, "", GONE, status=1)
    assert (status, samples["expected"], samples["running"]) == (0, 0, 0)


def test_no_old_figure_outlives_docker(tmp_path: Path) -> None:
    assert run(tmp_path, f"true {START} 0 always")[1]
    assert run(tmp_path, "", "Cannot connect to the Docker daemon", status=1) == (1, {})


@pytest.mark.parametrize("watched", [True, False])
def test_the_watchdog_s_figures_and_their_folder_stay(tmp_path: Path, watched: bool) -> None:
    """Its unit has the folder mounted: it could not write to a new one."""
    # Without what makes it root's; in tmp_path instead of /.
    _, _, _, _, *words = metrics_timer.remove_units("sglang").argv
    words = [f"{tmp_path}{word}" if word.startswith("/") else word for word in words]
    folder = Path(f"{tmp_path}{metrics_timer.textfile_folder('sglang')}")
    units = [Path(f"{tmp_path}{path}") for path in metrics_timer.unit_paths("sglang")]
    theirs = [folder / "watchdog.prom", folder / "watchdog.prom.part"] if watched else []
    names = ("gpu.prom", "gpu.prom.part", "rank.prom", "rank.prom.part", "docker.words")
    for path in (*units, *theirs, *(folder / name for name in names)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\n")
    systemctl.chmod(0o755)
    subprocess.run(words, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    assert not any(path.exists() for path in units)
    assert folder.parent.exists() == folder.exists() == watched
    assert not watched or sorted(folder.iterdir()) == sorted(theirs)

"""The script that writes the GPUs' figures, with what nvidia-smi prints on a GB10 and elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import cluster.monitoring

SCRIPT = Path(cluster.monitoring.__file__).with_name("gpu_metrics.sh")
# As nvidia-smi prints them: a GB10 at rest and busy, its clock held down.
REST = "0, 0, 3.74, 41, 208, 3003"
BUSY = "0, 96, 62.31, 74, 2405, 3003"
HELD = "0, 97, 13.90, 55, 721, 3003"


def run(tmp_path: Path, rows: str, status: int = 0) -> tuple[int, dict[str, float]]:
    """The exit status, and the samples in the file."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncat <<'E'\n{rows}\nE\nexit {status}\n")
    smi.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", SCRIPT, tmp_path], env=environment, capture_output=True)
    into = tmp_path / "gpu.prom"
    lines = into.read_text().splitlines() if into.exists() else []
    assert not (tmp_path / "gpu.prom.part").exists()
    samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    types = [line.split()[2] for line in lines if line.startswith("#")]
    assert len(types) == len(set(types))
    return done.returncode, {name: float(value) for name, _, value in samples}


@pytest.mark.parametrize(
    ("row", "values"),
    [
        (REST, (0, 3.74, 41, 208e6, 3003e6)),
        (BUSY, (0.96, 62.31, 74, 2405e6, 3003e6)),
        (HELD, (0.97, 13.9, 55, 721e6, 3003e6)),
    ],
)
def test_a_gb10_s_figures_in_base_units(
    tmp_path: Path, row: str, values: tuple[float, ...]
) -> None:
    status, samples = run(tmp_path, row)
    assert status == 0
    assert samples.pop("spark_gpu_samples_timestamp_seconds") > 1.7e9
    names = ("utilization_ratio", "power_watts", "temperature_celsius", "sm_clock_hertz")
    names += ("sm_clock_max_hertz",)
    assert samples == pytest.approx(
        {f'spark_gpu_{name}{{gpu="0"}}': value for name, value in zip(names, values, strict=True)}
    )


@pytest.mark.parametrize("word", ["[N/A]", "[Not Supported]", "N/A", "[Unknown Error]", "", "-1"])
def test_what_a_gpu_does_not_report_is_left_out(tmp_path: Path, word: str) -> None:
    status, samples = run(tmp_path, f"0, 5, {word}, 40, {word}, 3003")
    assert status == 0
    assert [
        name.partition("{")[0] for name in samples if "power" in name or "sm_clock_h" in name
    ] == []
    assert samples['spark_gpu_utilization_ratio{gpu="0"}'] == 0.05


def test_each_gpu_has_its_own_label(tmp_path: Path) -> None:
    _, samples = run(tmp_path, f"{BUSY}\n1{HELD[1:]}")
    assert samples['spark_gpu_sm_clock_hertz{gpu="1"}'] == 721e6
    assert samples['spark_gpu_sm_clock_hertz{gpu="0"}'] == 2405e6


@pytest.mark.parametrize(
    "rows",
    [
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        '0"} 1\nevil{x="1, 2, 3, 4, 5, 6',
        "",
    ],
)
def test_words_that_are_no_figures_write_none(tmp_path: Path, rows: str) -> None:
    assert run(tmp_path, rows) == (0, {})


def test_no_old_figure_outlives_a_lost_driver(tmp_path: Path) -> None:
    run(tmp_path, BUSY)
    status, samples = run(tmp_path, "Unable to determine the device handle for GPU0", status=9)
    assert status == 1
    assert samples == {}
    assert not (tmp_path / "gpu.prom").exists()

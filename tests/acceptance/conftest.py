"""Two simulated Sparks that both see a real SGLang, installed by `make acceptance`, and a model."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import testbed_image
from deploying import Deploy
from sparks import Cluster

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

INSTALLED = ROOT / ".cache" / "acceptance"
# Where the nodes, and so the containers, see INSTALLED.
SHARED = "/opt/sglang"
VERSION = "0.5.23"
IMAGE = f"sglang-cpu:v{VERSION}"

CPU = (
    *("--device", "cpu", "--load-format", "dummy"),
    *("--attention-backend", "torch_native", "--sampling-backend", "pytorch"),
    *("--max-total-tokens", "8192", "--disable-overlap-schedule"),
)
MODEL = "tiny-qwen2"
# A start took 35 to 70 s on two free cores; other work there may make that minutes.
START_SECONDS = 650
SETTINGS: dict[str, object] = {
    "model": f"{SHARED}/model",
    "served_model_name": MODEL,
    "image": IMAGE,
    "sglang_version": VERSION,
    "pull": "never",
    "gpus": "none",
    "context_length": 1024,
    "mem_fraction": 0.1,
    # Random weights talk nonsense: test_real_nonsense.py lets the probes say so.
    "probes": "off",
    "extra_args": list(CPU),
    # The image holds a bare Python and the stub: PYTHONPATH leads past the stub to the real SGLang,
    # which needs lscpu and more libraries, as they stand on the node.
    "volumes": [f"{SHARED}:{SHARED}:ro", "/usr:/usr:ro"],
    "env": {
        "PYTHONPATH": f"{SHARED}/standins:{SHARED}/venv/lib/python3.11/site-packages",
        "SGLANG_USE_CPU_ENGINE": "1",
        "SGLANG_CPU_OMP_THREADS_BIND": "0|1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    },
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes without a registry: nothing is pulled, the image is there."""
    if not (INSTALLED / ".models").exists():
        pytest.fail("SGLang for CPUs is not installed: make acceptance")
    shutil.copytree(HERE / "standins", INSTALLED / "standins", dirs_exist_ok=True)
    os.environ["TB_SHARE"] = f"{INSTALLED}:{SHARED}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    nodes = Cluster(Path(f"/run/sparks-{os.getpid()}"))
    try:
        nodes.start(2)
        nodes.each(lambda node: node.load(testbed_image.tar(VERSION, IMAGE)))
        yield nodes
    finally:
        nodes.stop()
        del os.environ["TB_SHARE"]


@pytest.fixture(scope="session")
def deploy(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """deploy.py for the two nodes, with real SGLang on CPU."""
    folder = tmp_path_factory.mktemp("acceptance")
    return Deploy(cluster, cluster.inventory(folder, **SETTINGS))


@pytest.fixture
def serving(deploy: Deploy) -> Cluster:
    """The cluster, with the group serving whatever the test before left."""
    deploy.succeeds(timeout=START_SECONDS)
    return deploy.cluster

"""Options, listings and rows of `spark-bench all`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spark_bench.load.profile import Profile
from spark_bench.project import ProjectListing, ProjectModel, ProjectNode
from spark_bench.results.suite_results import CaseRow
from spark_bench.suite.plan import SuiteOptions

CATALOGUE = (
    ProjectModel("openai/gpt-oss-120b", "gpt-oss-120b", 1),
    ProjectModel("openai/gpt-oss-20b", "gpt-oss-20b", 2),
    ProjectModel("Qwen/Qwen2.5-7B-Instruct", "qwen7b", 3),
    ProjectModel("Qwen/Qwen2.5-72B-Instruct", "qwen72b", 6),
    ProjectModel("meta-llama/Llama-3.1-8B-Instruct", "llama8b", 10, gated=True),
    ProjectModel(
        "RadixArk/Qwen3.8-27B-NVFP4", "qwen38-27b", 17,
        variants={"eagle": (1,), "dspark": (1,)}, default_variant="eagle",
    ),
    ProjectModel("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2", runtime="process"),
)  # fmt: skip


def listing(nodes: int = 2, model: str = "openai/gpt-oss-120b") -> ProjectListing:
    return ProjectListing(
        version=1,
        light=True,
        url="http://spark-1:30000",
        runs=False,
        served_model_name=model,
        model=model,
        group="sglang",
        state="running",
        nodes=tuple(ProjectNode(f"spark-{n}") for n in range(nodes)),
        catalogue=CATALOGUE,
    )


def suite_options(**changes: Any) -> SuiteOptions:
    plain = {
        "project": Path("."),
        "inventory": Path("inventories/spark.py"),
        "profile": Profile("short", 50, 256, 256),
        "folder": Path("out"),
    }
    return SuiteOptions(**plain | changes)  # type: ignore[arg-type]


def a_row(name: str, throughput: float | None, ttft: float | None, **changes: Any) -> CaseRow:
    fields: dict[str, Any] = {"model": f"org/{name}", "model_short": name, "name": name}
    fields |= {"nodes": 2, "tp": 2, "status": "OK" if throughput else "BENCH_FAILED"}
    return CaseRow(**fields | {"output_throughput": throughput, "ttft_ms": ttft} | changes)

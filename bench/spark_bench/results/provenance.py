"""Find out what a result was measured with. What can't be found is null, never an error."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import spark_bench
from spark_bench.project import ProjectListing
from spark_bench.protocol.models import parse_models
from spark_bench.results import provenance_schema, redact

if TYPE_CHECKING:
    import httpx


def gather_provenance(
    http: httpx.Client,
    url: str,
    *,
    model: str = "",
    project: Path | None = None,
    listing: ProjectListing | None = None,
) -> provenance_schema.Provenance:
    """Gather the provenance. Call this just before the run starts, for the load average.

    http: client that sends the API key, if any; the key never gets into the result
    url: the server's, with or without /v1
    model: id that will be requested; "": the first that the server lists
    project: the project's folder, for its git commit; None: there is none
    listing: what that project has deployed; None: nothing, or unknown
    """
    return provenance_schema.Provenance(
        client=client_versions(),
        machine=read_machine(),
        project=read_commit(project) if project else None,
        server=read_server_info(http, url, model),
        deployment=describe_deployment(listing) if listing else None,
    )


def client_versions() -> provenance_schema.Client:
    """The versions of the client's software."""
    httpx = None
    with suppress(metadata.PackageNotFoundError):
        httpx = metadata.version("httpx")
    return provenance_schema.Client(
        version=spark_bench.__version__, python=platform.python_version(), httpx=httpx
    )


def describe_deployment(listing: ProjectListing) -> provenance_schema.DeployedGroup | None:
    """The part of a project's listing that determines figures; None if nothing is running."""
    head = listing.head
    if head is None:
        return None
    ranks = (
        provenance_schema.DeployedRank(
            rank=rank.rank,
            node=rank.node,
            image=rank.image,
            image_id=rank.image_id,
            engine_version=rank.sglang,
            spec=rank.spec,
        )
        for rank in listing.ranks
    )
    return provenance_schema.DeployedGroup(
        model=head.model,
        revision=listing.revision,
        group=listing.group,
        launch={
            name: value for name, value in head.launch.items() if not redact.is_secret_name(name)
        },
        ranks=tuple(ranks),
    )


# ---- the client's machine, and the project's commit

_GIT_SECONDS = 5.0

# Arm's cores by part number (Linux, arch/arm64/include/asm/cputype.h). A GB10 has the last two.
_ARM_PARTS = {
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
    "0xd85": "Cortex-X925",
    "0xd87": "Cortex-A725",
}


def read_machine(root: Path = Path("/")) -> provenance_schema.Machine:
    """Read this machine's properties and current load. root: folder that holds /proc and /sys"""
    cpus = root / "sys/devices/system"
    # None on systems that don't have it.
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    memory = load = None
    with suppress(OSError, ValueError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):
        load = os.getloadavg()
    return provenance_schema.Machine(
        hostname=platform.node() or None,
        product=_first_line(root / "sys/class/dmi/id/product_name"),
        cpu=cpu_model(_text(root / "proc/cpuinfo")) or platform.processor() or None,
        cores=os.cpu_count(),
        usable_cores=len(usable) if usable is not None else None,
        memory_bytes=memory,
        kernel=platform.release() or None,
        platform=f"{platform.system()} {platform.machine()}",
        load_average=load,
        governor=_first_line(cpus / "cpu/cpu0/cpufreq/scaling_governor"),
        clock_source=_first_line(cpus / "clocksource/clocksource0/current_clocksource"),
    )


def cpu_model(cpuinfo: str) -> str | None:
    """The CPU's name, from /proc/cpuinfo; on Arm that has only part numbers.

    >>> cpu_model("model name\\t: AMD EPYC 9B45\\n")
    'AMD EPYC 9B45'
    >>> cpu_model("CPU implementer : 0x41\\nCPU part : 0xd85\\nCPU part : 0xd87\\n")
    'Cortex-X925 + Cortex-A725'
    """
    if name := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M):
        return name[1].strip()
    parts = dict.fromkeys(re.findall(r"^CPU part\s*:\s*(\w+)$", cpuinfo, re.M))
    return " + ".join(_ARM_PARTS.get(part, f"part {part}") for part in parts) or None


def read_commit(folder: Path) -> provenance_schema.Commit | None:
    """The commit checked out in `folder`; None if git has no answer."""
    sha = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if not sha or changes is None:
        return None
    return provenance_schema.Commit(sha=sha, dirty=bool(changes))


def _git(folder: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _first_line(path: Path) -> str | None:
    return _text(path).strip() or None


# ---- the server: SGLang, vLLM, llama.cpp, or anything else with /v1/models
#
# Only settings on an allow list are recorded, since SGLang's /server_info has the API key.

# Time limit in seconds. Don't wait longer for settings, which are only a bonus.
_SECONDS = 5.0

# Settings of sglang 0.5.3 to 0.5.23 that affect speed; speculative decoding adds speculative_*.
_SGLANG = """
    model_path tokenizer_path revision weight_version load_format dtype quantization kv_cache_dtype
    context_length device tp_size pp_size dp_size ep_size nnodes enable_dp_attention
    mem_fraction_static max_total_tokens max_total_num_tokens max_running_requests
    effective_max_running_requests_per_dp max_prefill_tokens chunked_prefill_size page_size
    schedule_policy schedule_conservativeness attention_backend prefill_attention_backend
    decode_attention_backend sampling_backend grammar_backend moe_runner_backend moe_a2a_backend
    fp8_gemm_runner_backend disable_cuda_graph cuda_graph_max_bs cuda_graph_max_bs_decode
    cuda_graph_max_bs_prefill enable_torch_compile disable_radix_cache disable_overlap_schedule
    enable_mixed_chunk enable_hierarchical_cache disable_custom_all_reduce
    enable_flashinfer_allreduce_fusion stream_interval num_continuous_decode_steps reasoning_parser
    tool_call_parser random_seed enable_deterministic_inference
"""
_LLAMA_CPP = frozenset(("model_path", "total_slots", "build_info", "n_ctx"))


def read_server_info(http: httpx.Client, url: str, model: str = "") -> provenance_schema.ServerInfo:
    """Read what the server at `url` says about itself; ServerInfo() if it doesn't respond.

    model: id that will be requested; "": the first that the server lists
    """
    base = url.rstrip("/").removesuffix("/v1")
    listed = parse_models(_body(http, f"{base}/v1/models"))
    entry = next((entry for entry in listed if model in ("", entry.id)), None)
    engine: str | None = None
    version: object = None
    settings: dict[str, provenance_schema.SettingValue] = {}
    # SGLang 0.5.23 has the first path and warns about the second, the only one in 0.5.3.
    for path in ("/server_info", "/get_server_info") if listed else ():
        if "tp_size" in (info := _get(http, base + path)):
            engine, version, settings = "sglang", info.get("version"), sglang_settings(info)
            break
    if listed and not engine:
        answer = _get(http, f"{base}/version").get("version")
        if isinstance(answer, str) and answer:
            engine, version = "vllm", answer
        elif "default_generation_settings" in (props := _get(http, f"{base}/props")):
            engine, version = "llama.cpp", props.get("build_info")
            settings = llama_cpp_settings(props)
    return provenance_schema.ServerInfo(
        engine=engine,
        version=version if isinstance(version, str) and version else None,
        models=tuple(entry.id for entry in listed),
        model=entry.id if entry else None,
        max_model_len=entry.context if entry else None,
        settings=settings,
    )


def sglang_settings(info: Mapping[str, Any]) -> dict[str, provenance_schema.SettingValue]:
    """The settings in SGLang's server info that affect speed."""
    states = info.get("internal_states")
    state = states[0] if isinstance(states, list) and states else {}
    # The scheduler's own value, if any, is the one in effect.
    merged = {**info, **(state if isinstance(state, dict) else {})}
    names = frozenset(_SGLANG.split())
    speculative = bool(info.get("speculative_algorithm"))
    return _picked(
        merged, lambda name: name in names or (speculative and name.startswith("speculative_"))
    )


def llama_cpp_settings(props: Mapping[str, Any]) -> dict[str, provenance_schema.SettingValue]:
    """The settings in llama.cpp's /props that affect speed."""
    defaults = props["default_generation_settings"]
    merged = {**(defaults if isinstance(defaults, dict) else {}), **props}
    return _picked(merged, _LLAMA_CPP.__contains__)


def _picked(
    info: Mapping[str, Any], wanted: Callable[[str], bool]
) -> dict[str, provenance_schema.SettingValue]:
    """The wanted settings that JSON can hold: scalars, neither infinite nor beyond 64 bits."""
    return {
        name: redact.clean_text(value) if isinstance(value, str) else value
        for name, value in sorted(info.items())
        if wanted(name)
        and not redact.is_secret_name(name)
        and (abs(value) < 2**63 if isinstance(value, int | float) else isinstance(value, str))
    }


def _get(http: httpx.Client, url: str) -> Mapping[str, Any]:
    try:
        answer = msgspec.json.decode(_body(http, url))
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _body(http: httpx.Client, url: str) -> bytes:
    """The body of a successful response, else empty."""
    import httpx

    try:
        response = http.get(url, timeout=_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        return b""
    return response.content if response.status_code == httpx.codes.OK else b""

"""Read what a server is: SGLang, vLLM, llama.cpp, or anything else with /v1/models.

Settings are an allow list, not everything but secrets: SGLang's /server_info has the API key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from spark_bench.protocol.models import ListedModel, parse_models
from spark_bench.results.redact import clean_text, is_secret_name
from spark_bench.results.schema import ServerInfo, SettingValue

if TYPE_CHECKING:
    import httpx

Get = Callable[[str], Mapping[str, Any]]

# A slower server is left alone: its settings are a bonus.
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


def read_server_info(http: httpx.Client, url: str, model: str = "") -> ServerInfo:
    """Read what the server at `url` says about itself; ServerInfo() if it doesn't respond.

    model: the one that will be requested; "": the first that it lists
    """
    base = url.rstrip("/").removesuffix("/v1")
    listed = parse_models(_body(http, f"{base}/v1/models"))
    return describe_server(lambda path: _get(http, base + path), listed, model)


def describe_server(get: Get, listed: Sequence[ListedModel], model: str = "") -> ServerInfo:
    """The same from responses: `get` returns the JSON object at a path, {} if there is none."""
    entry = next((entry for entry in listed if model in ("", entry.id)), None)
    engine, version, settings = _engine(get) if listed else (None, None, {})
    return ServerInfo(
        engine=engine,
        version=version,
        models=tuple(entry.id for entry in listed),
        model=entry.id if entry else None,
        max_model_len=entry.context if entry else None,
        settings=settings,
    )


def _engine(get: Get) -> tuple[str | None, str | None, dict[str, SettingValue]]:
    # 0.5.23 has the first path and warns about the second, which 0.5.3 has.
    for path in ("/server_info", "/get_server_info"):
        if "tp_size" in (info := get(path)):
            return "sglang", _word(info.get("version")), sglang_settings(info)
    if version := _word(get("/version").get("version")):
        return "vllm", version, {}
    if "default_generation_settings" in (props := get("/props")):
        return "llama.cpp", _word(props.get("build_info")), llama_cpp_settings(props)
    return None, None, {}


def sglang_settings(info: Mapping[str, Any]) -> dict[str, SettingValue]:
    """The settings in SGLang's server info that affect speed."""
    states = info.get("internal_states")
    state = states[0] if isinstance(states, list) and states else {}
    # The scheduler's own value, if any, is what the setting resulted in.
    merged = {**info, **(state if isinstance(state, dict) else {})}
    names = frozenset(_SGLANG.split())
    speculative = bool(info.get("speculative_algorithm"))
    return _picked(
        merged, lambda name: name in names or (speculative and name.startswith("speculative_"))
    )


def llama_cpp_settings(props: Mapping[str, Any]) -> dict[str, SettingValue]:
    """The settings in llama.cpp's /props that affect speed."""
    defaults = props["default_generation_settings"]
    merged = {**(defaults if isinstance(defaults, dict) else {}), **props}
    return _picked(merged, _LLAMA_CPP.__contains__)


def _picked(info: Mapping[str, Any], wanted: Callable[[str], bool]) -> dict[str, SettingValue]:
    return {
        name: clean_text(value) if isinstance(value, str) else value
        for name, value in sorted(info.items())
        if wanted(name) and not is_secret_name(name) and _is_setting(value)
    }


def _is_setting(value: object) -> bool:
    """Whether it is a scalar that JSON has: not infinite, within 64 bits."""
    if isinstance(value, int | float):
        return abs(value) < 2**63
    return isinstance(value, str)


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


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

"""The command line that starts one rank, in the spelling of the image's SGLang."""

from dataclasses import dataclass

from cluster.command import Argv
from cluster.engine import pairs, versions
from cluster.engine.options import canonical_name, options_of

# From this version on the new spelling is used. server_args.py calls --disable-cuda-graph
# deprecated from 0.5.17 on, and arg_groups/parallel_hook.py --enable-dp-attention from 0.5.22 on.
# Every recorded version accepts both, so what is between, or names no release, gets the old one.
NEW_SPELLING = "0.5.23"


@dataclass(frozen=True)
class Launch:
    """The options that one rank is started with.

    + revision: of the model's repository; None is main
    + tp, pp: of the whole group; tp * pp is a multiple of nnodes
    + dist_init_addr: "host:port" of rank 0 on the fabric; not passed on a single node
    + dist_timeout: seconds to wait for the other ranks; None is torch's own
    + mem_fraction, context_length: None leaves them to SGLang; kv_cache_dtype: "" does
    + reasoning_parser, tool_call_parser: "" for none
    + enable_dp_attention: keep FlashInfer's fused all-reduce off (versions.dp_attention_needed)
    + model_args: the arguments that the model's entry in the catalog adds
    + extra_args: the user's arguments, last; an option in them replaces ours and the model's
    What the version asserts beside all these (pairs.toml) is added.
    """

    model_path: str
    revision: str | None = None
    served_model_name: str = ""
    tp: int = 1
    pp: int = 1
    nnodes: int = 1
    rank: int = 0
    dist_init_addr: str | None = None
    dist_timeout: int | None = None
    host: str = "0.0.0.0"
    port: int = 30000
    mem_fraction: float | None = None
    context_length: int | None = None
    trust_remote_code: bool = False
    reasoning_parser: str = ""
    tool_call_parser: str = ""
    disable_cuda_graph: bool = False
    enable_dp_attention: bool = False
    enable_metrics: bool = True
    kv_cache_dtype: str = ""
    model_args: Argv = ()
    extra_args: Argv = ()


def argv(launch: Launch, version: str) -> Argv:
    """The arguments after `python3 -m`. They differ between ranks only in --node-rank.

    `python3 -m sglang.launch_server` is right for every version: newer ones have `sglang serve`
    too and only advise it.
    """
    options = options_of(version)
    own: Argv = ()
    taken = {canonical_name(word, options) for word in launch.extra_args if word.startswith("--")}
    # Ours give way to the model's, and both to the user's.
    for arguments in (split_options(launch.model_args), _ours(launch, version)):
        new = [words for words in arguments if canonical_name(words[0], options) not in taken]
        own = (*(word for words in new for word in words), *own)
        taken |= {canonical_name(words[0], options) for words in new}
    beside = pairs.required_arguments((*own, *launch.extra_args), version)
    return ("sglang.launch_server", *own, *beside, *launch.extra_args)


def _ours(launch: Launch, version: str) -> list[Argv]:
    """Every option of ours with its value."""
    # With --nnodes a single node would wait for others forever.
    group: list[Argv] = []
    if launch.nnodes > 1:
        group = [
            ("--nnodes", str(launch.nnodes)),
            ("--node-rank", str(launch.rank)),
            *_value("--dist-init-addr", launch.dist_init_addr),
            *_value("--dist-timeout", launch.dist_timeout),
        ]
    # Newer versions only warn of the old spellings.
    if versions.parse_version(version) < versions.parse_version(NEW_SPELLING):
        by_version = [
            *_flag("--disable-cuda-graph", launch.disable_cuda_graph),
            *_flag("--enable-dp-attention", launch.enable_dp_attention),
        ]
    else:
        phases = ("decode", "prefill") if launch.disable_cuda_graph else ()
        by_version = [
            *((f"--cuda-graph-backend-{phase}", "disabled") for phase in phases),
            *_flag("--enforce-disable-flashinfer-allreduce-fusion", launch.enable_dp_attention),
        ]
    return [
        ("--model-path", launch.model_path),
        *_value("--revision", launch.revision),
        *_value("--served-model-name", launch.served_model_name or None),
        *_flag("--trust-remote-code", launch.trust_remote_code),
        *_value("--reasoning-parser", launch.reasoning_parser or None),
        *_value("--tool-call-parser", launch.tool_call_parser or None),
        ("--tp-size", str(launch.tp)),
        ("--pp-size", str(launch.pp)),
        *group,
        ("--host", launch.host),
        ("--port", str(launch.port)),
        *_value("--mem-fraction-static", launch.mem_fraction),
        *_value("--context-length", launch.context_length),
        *_value("--kv-cache-dtype", launch.kv_cache_dtype or None),
        *_flag("--enable-metrics", launch.enable_metrics),
        *by_version,
    ]


def split_options(words: Argv) -> list[Argv]:
    """Words as options, each with the values that follow it."""
    options: list[Argv] = []
    for word in words:
        if word.startswith("--") or not options:
            options.append((word,))
        else:
            options[-1] = (*options[-1], word)
    return options


def _value(option: str, value: object) -> list[Argv]:
    return [] if value is None else [(option, str(value))]


def _flag(option: str, wanted: bool) -> list[Argv]:
    return [(option,)] if wanted else []

"""SGLang's command line: the options recorded from its own parser, as strict as argparse is."""

import argparse
import ast
import json
import sys
from pathlib import Path

from sglang import OLD

TABLE = Path(__file__).with_name("options.json")
# the recorded table has no types; a None default hides these
NUMBERS = {"--mem-fraction-static": float, "--dist-timeout": int, "--context-length": int}


def parse(argv):
    """The namespace; a mistake ends the process with argparse's own words and exit code 2."""
    if "--config" in argv:
        argv = merge_config(argv)
    args = parser().parse_args(argv)
    check(args)
    args.served_model_name = args.served_model_name or args.model_path
    return args


def parser():
    built = argparse.ArgumentParser(prog="launch_server.py")
    for flag, (names, default, choices, nargs) in json.loads(TABLE.read_text()).items():
        if flag != "-h":
            built.add_argument(*names, **keywords(flag, default, choices, nargs))
    return built


def keywords(flag, default, choices, nargs):
    value = literal(default)
    options = {"default": value, "dest": flag.lstrip("-").replace("-", "_")}
    if flag == "--tensor-parallel-size":
        options["dest"] = "tp_size"
    if flag == "--pipeline-parallel-size":
        options["dest"] = "pp_size"
    if flag == "--model-path":
        options["required"] = True
    if nargs == 0:
        return {**options, "action": "store_true"}
    kind = NUMBERS.get(flag) or (type(value) if type(value) in (int, float) else str)
    return {
        **options,
        "nargs": nargs,
        "type": kind,
        "choices": choices and [kind(c) for c in choices],
    }


def literal(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return None


def merge_config(argv):
    """--config FILE.yaml: its settings stand before those of the command line, which win."""
    at = argv.index("--config")
    words = []
    for line in Path(argv[at + 1]).read_text().splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key and not key.startswith("#") and value != "false":
            words += [f"--{key}"] if value == "true" else [f"--{key}", value.strip("'\"")]
    return words + argv[:at] + argv[at + 2 :]


def check(args):
    """What SGLang asserts of the parsed arguments; a failed one is exit code 1.

    With pipeline stages the real one turns its overlap schedule off before it asserts that it is
    off. The stub doesn't, so that what a deploy adds for it is seen.
    """
    given = vars(args).get
    stages, algorithm = args.pp_size > 1, given("speculative_algorithm")
    dp_size = given("data_parallel_size") or given("dp_size") or 1
    attention_dp = args.enable_dp_attention or (given("attn_dp_size") or 1) > 1
    no_chunks = str(args.chunked_prefill_size) == "-1"
    for wrong, words in (
        (
            args.tp_size * args.pp_size % args.nnodes,
            "tp_size must be divisible by number of nodes",
        ),
        (
            stages and not args.disable_overlap_schedule,
            "Pipeline parallelism is not compatible with overlap schedule",
        ),
        (
            stages and algorithm,
            "Pipeline parallelism is not compatible with overlap schedule, speculative decoding",
        ),
        (
            OLD and stages and args.enable_mixed_chunk,
            "Pipeline parallelism is not compatible with overlap schedule, speculative decoding, "
            "mixed chunked prefill.",
        ),
        (
            dp_size > 1 and args.nnodes > 1 and not attention_dp,
            "multi-node data parallel is not supported unless dp attention!",
        ),
        (
            dp_size > 1 and args.enable_dp_lm_head and not attention_dp,
            "Please enable dp attention when setting enable_dp_lm_head. ",
        ),
        (
            args.enable_pdmux and stages,
            "PD-Multiplexing is only supported with pipeline parallelism disabled (pp_size=1).",
        ),
        (
            args.enable_pdmux and not no_chunks,
            "PD-Multiplexing is not compatible with chunked prefill.",
        ),
        (
            args.enable_pdmux and not args.disable_overlap_schedule,
            "PD-Multiplexing is not compatible with overlap schedule.",
        ),
        (
            args.enable_hierarchical_cache and args.disable_radix_cache,
            "The arguments enable-hierarchical-cache and disable-radix-cache are mutually "
            "exclusive and cannot be used at the same time. Please use only one of them.",
        ),
        (
            args.enable_priority_scheduling and args.schedule_policy not in ("fcfs", "lof"),
            "To use priority scheduling, schedule_policy must be 'fcfs' or 'lof'. "
            f"'{args.schedule_policy}' is not supported.",
        ),
    ):
        if wrong:
            sys.exit(f"AssertionError: {words}")

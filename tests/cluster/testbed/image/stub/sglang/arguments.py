"""SGLang's command line: the options recorded from its own parser, as strict as argparse is."""

import argparse
import ast
import json
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("options.json")
# the recorded table tells no types; a None default hides these
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
    made = argparse.ArgumentParser(prog="launch_server.py")
    for flag, (names, default, choices, nargs) in json.loads(TABLE.read_text()).items():
        if flag != "-h":
            made.add_argument(*names, **keywords(flag, default, choices, nargs))
    return made


def keywords(flag, default, choices, nargs):
    value = literal(default)
    found = {"default": value, "dest": flag.lstrip("-").replace("-", "_")}
    if flag == "--tensor-parallel-size":
        found["dest"] = "tp_size"
    if flag == "--pipeline-parallel-size":
        found["dest"] = "pp_size"
    if flag == "--model-path":
        found["required"] = True
    if nargs == 0:
        return {**found, "action": "store_true"}
    kind = NUMBERS.get(flag) or (type(value) if type(value) in (int, float) else str)
    return {
        **found,
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
    """What SGLang asserts of the parsed arguments; a failed one is exit code 1."""
    sizes = args.tp_size * args.pp_size
    if sizes % args.nnodes:
        sys.exit("AssertionError: tp_size must be divisible by number of nodes")
    if args.pp_size > 1 and not args.disable_overlap_schedule:
        sys.exit("AssertionError: Pipeline parallelism is not compatible with overlap schedule")

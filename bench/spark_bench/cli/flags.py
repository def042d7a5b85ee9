"""The options of `run`, by heading. All without a default here may be left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import click

from spark_bench import INVENTORY, PROJECT
from spark_bench.cli.sections import under
from spark_bench.cli.types import json_object, positive, whole, zero_or_more

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
THERE = click.Path(exists=True, readable=True, path_type=Path)
ANY = click.Path(path_type=Path)


def _choice(*words: str) -> click.Choice[str]:
    return click.Choice(words)


Flag = Callable[[Any], Any]


def _profile() -> list[Flag]:
    flag = under("Profile")
    return [
        flag("-n", "--num-prompts", metavar="N", type=whole(), help="Requests to send."),
        flag("-i", "--input-len", metavar="N", type=whole(), help="Tokens a prompt, exactly."),
        flag("-o", "--output-len", metavar="N", type=whole(), help="Tokens an answer."),
        flag(
            "-r",
            "--request-rate",
            metavar="RATE",
            type=positive(or_inf="as fast as possible"),
            help="Requests a second (open loop); inf: as fast as -c allows (closed loop).",
        ),
        flag(
            "-c",
            "--concurrency",
            metavar="N",
            type=whole(none=True),
            help="Requests in flight at most, or none for no limit.",
        ),
        flag("--profiles", type=FILE, multiple=True, help="TOML file with more profiles."),
    ]


def _load() -> list[Flag]:
    flag = under("Load")
    shown = partial(flag, show_default=True)
    seconds = partial(flag, metavar="SECONDS", type=positive())
    return [
        flag(
            "--burstiness",
            metavar="SHAPE",
            type=positive(or_inf="evenly spaced arrivals"),
            help="Arrivals at a rate: 1 Poisson (default), less for bursts, inf evenly spaced.",
        ),
        flag("--ramp", metavar="A:B[:SHAPE]", help="Rate from A to B; linear or exponential."),
        seconds("--ramp-slots", help="Let the requests in flight grow to -c within this time."),
        seconds("--duration", help="Send nothing more after this time; -n is the most."),
        seconds("--timeout", default=600, show_default=True, help="For one request."),
        flag(
            "--warmup",
            metavar="auto|N",
            type=whole(0, auto=True),
            help="Uncounted requests first: auto (default), like the load's until steady, before "
            "the first repeat; N before each repeat; 0 none.",
        ),
        shown("--repeat", metavar="N", type=whole(), default=1, help="Runs, for intervals."),
        shown("--seed", metavar="N", type=whole(0), default=0, help="The same: the same bytes."),
        flag(
            "--sweep",
            metavar="OVER[=LOADS]",
            help="Runs over concurrency or rate: concurrency=1..64, rate=1,2,4; without LOADS "
            "they are searched for. Ends past the knee, or where --slo is missed.",
        ),
        flag("--trace", type=FILE, help="Replay a JSONL trace: its times and lengths."),
        flag("--trace-speed", metavar="FACTOR", type=positive(), help="2: twice as fast."),
    ]


def _prompts() -> list[Flag]:
    flag = under("Prompts")
    count = partial(flag, metavar="N", type=whole())
    return [
        flag("--sharegpt", type=FILE, help="Take them from a ShareGPT file."),
        count("--turns", help="Questions a conversation."),
        flag(
            "--think-time",
            metavar="SECONDS",
            type=zero_or_more,
            help="From an answer to the next question.",
        ),
        count("--shared-prefix", help="Tokens that all prompts begin with."),
        count("--prefix-groups", help="So many different prefixes."),
        flag(
            "--cache",
            type=_choice("miss", "hit"),
            default="miss",
            show_default=True,
            help="Whether the server's prefix cache shall have seen them.",
        ),
        flag("--tokenizer", type=THERE, help="tokenizer.json, or its folder."),
    ]


def _server() -> list[Flag]:
    flag = under("Server")
    shown = partial(flag, show_default=True)
    return [
        flag(
            "--url",
            envvar="SPARK_BENCH_URL",
            show_envvar=True,
            help="Default: the project's head, else http://localhost:30000.",
        ),
        shown("--project", type=ANY, default=PROJECT, help="Checkout that deployed it."),
        shown("--inventory", type=ANY, default=INVENTORY, help="The project's inventory."),
        flag("--model", metavar="NAME", help="Default: what the server lists."),
        shown(
            "--endpoint",
            type=_choice("chat", "completions", "generate"),
            default="chat",
            help="The API to use; generate is SGLang's own.",
        ),
        flag("--api-key-file", type=FILE, help="Default: $SPARK_BENCH_API_KEY, if it is set."),
        shown("--ignore-eos/--no-ignore-eos", default=True, help="Force -o where supported."),
        shown("--temperature", metavar="T", type=zero_or_more, default=0.0, help="For sampling."),
        flag("--extra-body", metavar="JSON", type=json_object, help="Merged into each request."),
    ]


def _measure() -> list[Flag]:
    flag = under("Measure")
    return [
        flag("--slo", metavar="LIMITS", help="For goodput: ttft=MS,tpot=MS,e2e=MS, or some."),
        flag(
            "--count-tokens",
            type=_choice("auto", "usage", "off"),
            default="auto",
            show_default=True,
            help="How to count each event's tokens: auto, from the server's stream, else with a "
            "tokenizer; usage, from the stream only; off, with a tokenizer only.",
        ),
        flag("--metrics/--no-metrics", default=None, help="/metrics. Default: if there."),
        flag("--power/--no-power", default=None, help="The nodes' GPUs. Default: if known."),
    ]


def _output() -> list[Flag]:
    flag = under("Output")
    return [
        flag(
            "--max-failures",
            default="0",
            show_default=True,
            metavar="N|N%",
            help="Exit with 1 when more requests fail.",
        ),
        flag("--output", type=ANY, help="Default: benchmark_results/bench_PROFILE_TIME.json."),
        flag("--save-requests", is_flag=True, help="Write each request beside it."),
        flag("--history/--no-history", default=True, help="Remember it, for `history` and trends."),
        flag("--json", "as_json", is_flag=True, help="Result to stdout, all else to stderr."),
        flag("--quiet", is_flag=True, help="No progress, no tables."),
    ]


FLAGS = [*_profile(), *_load(), *_prompts(), *_server(), *_measure(), *_output()]


def flags(function: Callable[..., Any]) -> Any:
    """All of them, and the profile's name, as one decorator."""
    named = click.argument("name", metavar="[PROFILE]", default="quick")
    return reduce(lambda made, flag: flag(made), reversed([named, *FLAGS]), function)

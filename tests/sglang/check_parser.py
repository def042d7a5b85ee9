"""Hold our launch lines and recorded options against the argument parser of a real SGLang.

    PYTHONPATH=. PYTHON tests/sglang/check_parser.py             check; exit 1 with every difference
    PYTHONPATH=. PYTHON tests/sglang/check_parser.py --record    write options-VERSION.json anew

PYTHON is an interpreter that can import SGLang's parser (tests/sglang/requirements.txt): no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from importlib.metadata import version
from typing import Any

from launch_lines import ACCEPTED, REFUSED, launches

from cluster.engine.argv import Launch, argv
from cluster.engine.options import HERE, RECORDED, check_arguments

Table = dict[str, list[Any]]


def real_parser() -> argparse.ArgumentParser:
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser


def table(parser: argparse.ArgumentParser) -> Table:
    """First option string -> [option strings, repr(default), choices, nargs]; choices sorted.

    Some choices come from sets, so their order says nothing.
    """
    return {
        a.option_strings[0]: [
            list(a.option_strings),
            repr(a.default),
            sorted(map(str, a.choices)) if a.choices else None,
            a.nargs,
        ]
        for a in parser._actions
        if a.option_strings
    }


def recorded(release: str) -> Table:
    rows: Table = json.loads((HERE / f"options-{release}.json").read_text())
    return {n: [o, d, sorted(c) if c else None, k] for n, (o, d, c, k) in rows.items()}


def refusal(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> str:
    """The real parser's last line where it refuses the words, else ""."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            parser.parse_args(words)
    except SystemExit:
        return output.getvalue().strip().splitlines()[-1]
    return ""


def differences(parser: argparse.ArgumentParser, release: str) -> list[str]:
    """Everything in which we and the real parser do not agree."""
    real, ours = table(parser), recorded(release)
    wrong = [f"option {n}: {ours.get(n)} recorded, {real.get(n)} real" for n in changed(ours, real)]
    for launch in launches():
        words = argv(launch, release)
        if output := refusal(parser, words[1:]):
            wrong.append(f"{' '.join(words)}: {output}")
    base = argv(Launch("some/model"), release)
    for extra in ACCEPTED + REFUSED:
        output, expected = refusal(parser, base[1:] + extra), check_arguments(base + extra, release)
        if bool(output) != bool(expected):
            wrong.append(
                f"{extra}: real parser {output or 'accepts'}, ours {expected or 'accepts'}"
            )
    return wrong


def changed(ours: Table, real: Table) -> list[str]:
    return sorted(n for n in ours.keys() | real.keys() if ours.get(n) != real.get(n))


def main() -> int:
    release, parser = version("sglang"), real_parser()
    if "--record" in sys.argv:
        rows = json.dumps(table(parser), sort_keys=True, indent=0)
        (HERE / f"options-{release}.json").write_text(rows)
        return 0
    if release not in RECORDED:
        print(f"no options of SGLang {release} are recorded: run with --record")
        return 1
    wrong = differences(parser, release)
    print(*wrong, sep="\n", end="\n" * bool(wrong))
    lines, words = len(list(launches())), len(ACCEPTED + REFUSED)
    what = f"{len(recorded(release))} options, {lines} launch lines, {words} words by hand"
    print(f"SGLang {release}: {what}: {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

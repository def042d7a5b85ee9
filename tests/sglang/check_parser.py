"""Hold our launch lines and recorded options against the argument parser of a real SGLang.

    PYTHON tests/sglang/check_parser.py             check; exit 1 with every difference
    PYTHON tests/sglang/check_parser.py --record    write its options anew

With PYTHONPATH=.:tests/support; PYTHON is an interpreter that can import SGLang's parser
(tests/sglang/requirements.txt): no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType
from typing import Any, ClassVar
from unittest.mock import MagicMock

from launch_lines import ACCEPTED, REFUSED, launches

from cluster.engine.argv import Launch, argv
from cluster.engine.options import HERE, NEWEST, RECORDED, Table, check_arguments, recorded_table


class StandIn(ModuleType):
    """A module that has every name."""

    __path__: ClassVar[list[str]] = []
    __version__ = "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


class StandIns(MetaPathFinder, Loader):
    """torchvision: imported on the way to the parser, of no use to it, and in no build that fits
    torch's for CPUs."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        ours = name.split(".")[0] == "torchvision"
        return ModuleSpec(name, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def real_parser() -> argparse.ArgumentParser:
    sys.meta_path.append(StandIns())
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


def record(release: str, real: Table) -> None:
    """Write this release's file; for the newest, every file, as the others differ from it."""
    tables = {other: recorded_table(other) for other in RECORDED if other != release}
    tables[release] = real
    base = tables[NEWEST]
    for other in tables if release == NEWEST else (release,):
        own: Mapping[str, list[Any] | None] = tables[other]
        if other != NEWEST:
            own = {name: own.get(name) for name in changed(base, tables[other])}
        rows = (f"{json.dumps(name)}: {json.dumps(own[name])}" for name in sorted(own))
        (HERE / f"options-{other}.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


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
    real, ours = table(parser), recorded_table(release)
    wrong = [f"option {n}: {ours.get(n)} recorded, {real.get(n)} real" for n in changed(ours, real)]
    base = argv(Launch("some/model"), release)
    lines = [base + extra for extra in ACCEPTED + REFUSED]
    lines += [argv(launch, release) for launch, _ in launches(release)]
    for words in lines:
        output, expected = refusal(parser, words[1:]), check_arguments(words, release)
        if bool(output) != bool(expected):
            line = " ".join(words)
            wrong.append(f"{line}: real parser {output or 'accepts'}, ours {expected or 'accepts'}")
    return wrong


def changed(ours: Table, real: Table) -> list[str]:
    return sorted(n for n in ours.keys() | real.keys() if ours.get(n) != real.get(n))


def main() -> int:
    release, parser = version("sglang"), real_parser()
    if release not in RECORDED:
        print(f"SGLang {release} is none of RECORDED in cluster/engine/options.py")
        return 1
    if "--record" in sys.argv:
        record(release, table(parser))
    wrong = differences(parser, release)
    print(*wrong, sep="\n", end="\n" * bool(wrong))
    lines, words = len(list(launches(release))), len(ACCEPTED + REFUSED)
    what = f"{len(recorded_table(release))} options, {lines} launch lines, {words} words by hand"
    print(f"SGLang {release}: {what}: {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

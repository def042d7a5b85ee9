"""SGLang with an API key that no command line shows: runs in the container.

python3 -c THIS_FILE MODULE WORD…      is: python3 -m MODULE WORD…, with the key of the file

SGLang takes its key as the option --api-key alone: `ps` and `docker inspect` show it, and
0.5.3.post3 logs it. Here it goes from the file into the parsed arguments, in SGLang's own process.
Without a key nothing starts: the server would be open. Runs on the image's Python, without the
project.
"""

from __future__ import annotations

import importlib
import runpy
import secrets
import sys
from typing import Any, SupportsIndex

FILE = "/run/secrets/spark-serving-api/api_key"
# Other servers of SGLang's, whose requests never pass its check of the key.
OTHER_DOORS = ("grpc_mode", "smg_grpc_mode", "grpc_port", "encoder_only", "use_ray")


class ApiKey(str):
    """A key that repr() hides. A copy, and what another process gets, is a text nobody knows:
    what can't hold the key must not open to anyone."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(hidden)'"

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[str], tuple[str]]:
        return str, (f"(hidden, not the key: {secrets.token_hex(16)})",)


def key() -> ApiKey:
    """The key of the file; the process ends where there is none."""
    try:
        with open(FILE, encoding="ascii") as file:
            text = file.read().strip()
    except (OSError, ValueError) as problem:
        sys.exit(f"API key: {FILE} cannot be read ({type(problem).__name__}): not started")
    if not text:
        sys.exit(f"API key: {FILE} is empty: not started")
    return ApiKey(text)


def keyed(args: Any) -> Any:
    """SGLang's parsed arguments, with the key."""
    for door in OTHER_DOORS:
        if getattr(args, door, None):
            option = door.replace("_", "-")
            sys.exit(f"API key: --{option} would serve without asking for it: not started")
    args.api_key = key()
    return args


def main() -> None:
    """Run the module of the first word as `python3 -m` does."""
    server_args: Any = importlib.import_module("sglang.srt.server_args")
    prepare = server_args.prepare_server_args
    server_args.prepare_server_args = lambda argv: keyed(prepare(argv))
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

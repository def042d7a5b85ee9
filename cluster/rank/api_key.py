"""Whether a rank requires a key of its clients, where the key is stored, and how SGLang gets it.

A spec says only that there is a key, by its mount. Only rank 0 has it: the others answer nothing
but health checks.
"""

from functools import cache
from pathlib import Path

from cluster.command import Argv, Command, load_script

# Root's, on disk: a rank that comes back after a reboot must not serve without a key.
NODE_KEYS = "/var/lib/spark-serving"
CONTAINER_KEYS = "/run/secrets/spark-serving-api"
KEY_FILE = "api_key"


def key_folder(group: str) -> str:
    """A group's folder on the head's node."""
    return f"{NODE_KEYS}/{group}"


def key_volume(group: str) -> str:
    """The mount that gives rank 0 its key."""
    return f"{key_folder(group)}:{CONTAINER_KEYS}:ro"


def is_keyed(volumes: tuple[str, ...] | list[str]) -> bool:
    """Whether a rank with these mounts requires a key."""
    return any(v.split(":")[1:2] == [CONTAINER_KEYS] for v in volumes)


def launch_argv(module: Argv, volumes: tuple[str, ...]) -> Argv:
    """`python3 -m MODULE …`, or the same by way of the launcher that brings the key."""
    how = ("-c", _launcher()) if is_keyed(volumes) else ("-m",)
    return ("python3", *how, *module)


@cache
def _launcher() -> str:
    return Path(__file__).with_name("api_key_launcher.py").read_text()


_PLACE = load_script(__file__, "place_api_key.sh")
_COMPARE = load_script(__file__, "compare_api_key.sh")
# $1 is the group. The folder of all groups goes with the last one.
_REMOVE = 'rm -rf "/at/spark-serving/$1"; rmdir /at/spark-serving 2>/dev/null || :'


def place_key(group: str, image: str, key: str) -> Command:
    """Have the key in a group's folder, which the login may not write: by way of
    the engine and any image with a shell."""
    return _as_root(key_folder(group), image, _PLACE, KEY_FILE).with_stdin(f"{key}\n")


def compare_key(group: str, image: str, key: str) -> Command:
    """Say whether the key is the one there: "same", "different" or "missing"."""
    return _as_root(key_folder(group), image, _COMPARE, KEY_FILE).with_stdin(f"{key}\n")


def remove_key(group: str, image: str) -> Command:
    """Take a group's folder away."""
    return _as_root(str(Path(NODE_KEYS).parent), image, _REMOVE, group)


def _as_root(at: str, image: str, script: str, argument: str) -> Command:
    run = ("docker", "run", "--rm", "--interactive", "--network", "none", "--pull", "never")
    shell = ("--entrypoint", "sh", "--volume", f"{at}:/at", image, "-c", script, "sh", argument)
    return Command((*run, *shell), 60)

"""Commands for weights and vocabularies on a node. Nothing is run or quoted here."""

import json
from collections.abc import Mapping
from typing import Any

from cluster.command import Argv, Command, load_script

# The label of a container of ours that is no rank; its value names the group and the model.
TASK = "spark-serving.task"
# The token lies here while a download runs: on tmpfs, root's, mounted into that container alone.
TOKEN_FOLDER = "/run/spark-serving/download"
TOKEN_FILE = "hf_token"
_MOUNTED = "/run/secrets/spark-serving"
_CACHE = "/hub"

# $1: written as root, through Docker; the token comes on stdin.
_TOKEN = 'umask 077; chmod 700 /at && cat >"/at/$1.part" && mv "/at/$1.part" "/at/$1"'
_FORGET = 'rm -f "/at/$1" "/at/$1.part"'
# $1 folder, $2 image, $3 removes the file $4. Only a folder that has had a token is closed to the
# login: no container is needed where the login sees that there is none.
_DELETE = """
[ -e "$1" ] || exit 0
[ -x "$1" ] && [ ! -e "$1/$4" ] && [ ! -e "$1/$4.part" ] && exit 0
exec docker run --rm --network none --entrypoint sh --volume "$1:/at" "$2" -c "$3" sh "$4"
""".strip()
# For starting Python in an image, two lists and two small files.
DESCRIBE_SECONDS = 120
# Characters. One argument holds at most 128 kB (MAX_ARG_STRLEN of Linux).
_PIECE = 100_000
_START = load_script(__file__, "start_download.sh")
# $1 container: its state, its exit code, and its last words.
_WATCH = """
docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$1" || exit
docker logs --tail 40 "$1" 2>&1
""".strip()
# Every such container, one a line: name, state, what it is for.
_TASKS = f'{{{{.Names}}}}\t{{{{.State}}}}\t{{{{.Label "{TASK}"}}}}'


def hub_folder(hf_cache: str, model: str) -> str:
    """Where the hub's client keeps a model under HF_HOME."""
    return f"{hf_cache.rstrip('/')}/hub/models--{model.replace('/', '--')}"


def container_name(group: str) -> str:
    """The name of the container that downloads for a group."""
    return f"spark-serving-weights-{group}"


def delete_token(folder: str, name: str, image: str) -> Command:
    """Remove the token that `start_download` put into a folder of root's, and open the folder."""
    forget = f"{_FORGET} && chmod 755 /at"
    return Command(("sh", "-c", _DELETE, "sh", folder, image, forget, name), 60)


def chown_to_login(folder: str, uid: int, gid: int, image: str) -> Command:
    """Give a folder that an engine created as root to the login."""
    run = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "chown")
    at = ("--volume", f"{folder}:/at", image, "-R", f"{uid}:{gid}", "/at")
    return Command((*run, *at), 600)


def start_download(
    group: str,
    model: str,
    hf_cache: str,
    image: str,
    script: str,
    task: str,
    *,
    fetch: bool,
    token: bool,
) -> Command:
    """Run the hub's client in a detached container: a lost connection, or the end of the
    controller, does not end it.

    + task: `download_task`'s text, for stdin
    + fetch: download files into the cache; otherwise only list them
    + token: whether one comes along
    """
    quiet = {
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ENABLE_HF_TRANSFER": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
    }
    argv = (
        *("sh", "-c", _START, "sh", TOKEN_FOLDER, TOKEN_FILE, image, _TOKEN, _FORGET),
        *("docker", "run", "--detach"),
        *("--name", container_name(group), "--label", f"{TASK}={task_label(group, model)}"),
        *("--network", "host", "--entrypoint", "python3"),
        *(("--volume", f"{hf_cache.rstrip('/')}/hub:{_CACHE}") if fetch else ()),
        # Writable: the client removes the token once it has read it.
        *(("--volume", f"{TOKEN_FOLDER}:{_MOUNTED}") if token else ()),
        *(word for name, value in quiet.items() for word in ("-e", f"{name}={value}")),
        *(image, "-c", script),
    )
    return Command(argv, 180, task)


def describe_repository(
    model: str, revision: str, endpoint: str, image: str, script: str, token: str
) -> Command:
    """Run the hub's client in a container that is gone with its answer: what a repository holds,
    and its config.json. The token comes on stdin."""
    request = {
        "do": "describe",
        "repo": model,
        "revision": revision,
        "endpoint": endpoint,
        "token_file": "-",
    }
    quiet = ("HF_HUB_DISABLE_PROGRESS_BARS=1", "HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_OFFLINE=0")
    argv = (
        *("docker", "run", "--rm", "--interactive", "--network", "host"),
        *("--entrypoint", "python3"),
        *(word for variable in quiet for word in ("-e", variable)),
        *(image, "-c", script, json.dumps(request)),
    )
    return Command(argv, DESCRIBE_SECONDS, f"{token}\n")


def download_task(model: str, endpoint: str, token: str, request: Mapping[str, Any]) -> str:
    """Stdin for `start_download`: the token, then the request to hub_client.py as JSON."""
    folder = hub_folder("", model).removeprefix("/hub/")
    fields = {
        **request,
        **{"repo": model, "endpoint": endpoint, "token_file": f"{_MOUNTED}/{TOKEN_FILE}"},
        **({"folder": f"{_CACHE}/{folder}"} if request["do"] == "fetch" else {}),
    }
    text = json.dumps(fields)
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    return "".join(f"{line}\n" for line in (token, *pieces))


def task_label(group: str, model: str) -> str:
    return f"weights {group} {model}"


def list_tasks() -> Command:
    """Containers of ours that are no ranks."""
    listed = ("docker", "ps", "--all", "--filter", f"label={TASK}", "--format", _TASKS)
    return Command(listed, 30)


def watch_download(group: str) -> Command:
    return Command(("sh", "-c", _WATCH, "sh", container_name(group)), 30)


def remove_download(group: str) -> Command:
    return Command(("docker", "rm", "--force", container_name(group)), 60)


def run_script(script: str, seconds: int, task: str) -> Command:
    """Run weights_here.py on the node; the request (JSON) comes on stdin."""
    return Command(("python3", "-c", script), seconds, task)


def part_folder(folder: str, hub: bool, commit: str) -> str:
    """Where files arrive before they are checked: on the same disk, so that a rename moves them."""
    return f"{folder}/.spark-serving-part/{commit}" if hub else f"{folder}.spark-serving-part"


def measure_folder(folder: str) -> Command:
    return Command(("sh", "-c", 'du -sk "$1" 2>/dev/null || echo 0', "sh", folder), 30)


def share_out(sizes: Mapping[str, int], count: int) -> list[list[str]]:
    """Spread files over at most `count` streams of about the same size; no stream is empty.

    + sizes: name → bytes
    """
    shares: list[tuple[int, list[str]]] = [(0, []) for _ in range(min(count, len(sizes)))]
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        least = min(range(len(shares)), key=lambda i: shares[i][0])
        total, names = shares[least]
        names.append(name)
        shares[least] = (total + sizes[name], names)
    return [names for _total, names in shares]


# openai_harmony reads these from TIKTOKEN_ENCODINGS_BASE; the digests are from tiktoken's own
# tiktoken_ext/openai_public.py.
TIKTOKEN = {
    "o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}

_PLACE_FILE = load_script(__file__, "place_file.sh")


def place_vocabulary(
    folder: str, name: str, sha256: str, *, url: str = "", content: str = ""
) -> Command:
    """Put a file (`content` in base64, or from `url`) into a folder: checked, then moved."""
    return _place_file(folder, name, sha256, url).with_stdin(content)


def copy_vocabulary(folder: str, name: str, sha256: str, ssh: Argv) -> Command:
    """The same, from another node: `ssh` leads to the vocabularies there."""
    return _place_file(folder, name, sha256, "", *ssh)


def _place_file(*words: str) -> Command:
    return Command(("sh", "-c", _PLACE_FILE.strip(), "sh", *words), 660)

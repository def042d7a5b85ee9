"""What an engine reads before it serves: tiktoken vocabularies, and the token to download with."""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from cluster.spec import NODE_SECRETS, TOKEN_FILE
from cluster.weights import place, place_token
from operations import shell

SECONDS = 700


@operation()
def vocabularies(
    folder: str, source: str, files: Mapping[str, str]
) -> Generator[FunctionCommand, None, None]:
    """Place tiktoken files, each checked by its hash before it is moved to its name.

    + folder: on the node
    + source: URL that has them, or a folder on the controller
    + files: those that the node lacks: name → SHA-256
    """
    if not files:
        host.noop("the vocabularies are there")
    for name, sha256 in files.items():
        yield FunctionCommand(_place, (folder, source, name, sha256), {})


@operation()
def token(
    find: Callable[[], str], image: str, needed: bool
) -> Generator[FunctionCommand, None, None]:
    """Put the Hugging Face token where the rank's container has it mounted.

    + find: gives the token; it is asked at the last moment, so that no plan holds the secret
    + image: any local image with a shell: it writes as root what the login must not
    + needed: whether a rank on this node will download
    """
    if needed:
        yield FunctionCommand(_place_token, (find, image), {})


def _place(state: State, host: Host, folder: str, source: str, name: str, sha256: str) -> bool:
    remote = source.startswith(("http://", "https://"))
    local = Path(source).expanduser() / name
    if not remote and not local.is_file():
        host.log_styled(f"tiktoken_source has no {local}", fg="red")
        return False
    content = "" if remote else base64.b64encode(local.read_bytes()).decode()
    url = f"{source.rstrip('/')}/{name}" if remote else ""
    answer = shell.ask(host, place(folder, name, sha256, url), SECONDS, stdin=content)
    if not answer.ok:
        cure = "a folder here: --data tiktoken_source=/folder" if remote else "mend that file"
        host.log_styled(
            f"{name} could not be placed from {source}: {answer.text} -> {cure}", fg="red"
        )
    return answer.ok


def _place_token(state: State, host: Host, find: Callable[[], str], image: str) -> bool:
    answer = shell.ask(host, place_token(NODE_SECRETS, TOKEN_FILE, image), 90, stdin=find())
    if not answer.ok:
        host.log_styled(f"the token could not be placed in {NODE_SECRETS}: {answer.text}", fg="red")
    return answer.ok

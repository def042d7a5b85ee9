"""The file of a task's problems: on this machine, or of one commit of a data set on the hub.

From the hub a file is fetched only if its commit and its hash are given, and once: it is kept by
its hash.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from spark_bench.errors import BadInput, Unreachable

HUB = "https://huggingface.co"
# ORG/NAME@COMMIT:PATH, of a data set.
_ON_HUB = re.compile(r"([\w.-]+/[\w.-]+)@([^:@/]+):(.+)", re.ASCII)
_COMMIT, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
MOST_BYTES = 4 * 1024**3
PIECE = 1024 * 1024
SECONDS = 30.0  # without a byte


def check_data(text: str, sha256: str) -> None:
    """Raise BadInput unless --data names a file of here, or one of the hub by commit and hash."""
    if sha256 and not _SHA256.fullmatch(sha256):
        raise BadInput(
            f"--data-sha256 {sha256}: it is not 64 hex digits: give what sha256sum prints"
        )
    if Path(text).is_file():
        return
    if not (parts := _ON_HUB.fullmatch(text)):
        raise BadInput(
            f"--data {text}: there is no such file: give one, or a data set's on the hub as "
            "ORG/NAME@COMMIT:PATH"
        )
    if not _COMMIT.fullmatch(parts[2]):
        raise BadInput(f"--data {text}: {parts[2]!r} may move: give a commit, 40 hex digits")
    if ".." in PurePosixPath(parts[3]).parts:
        raise BadInput(f"--data {text}: {parts[3]!r} is not a file of the repository")
    if not sha256:
        raise BadInput(f"--data {text} needs --data-sha256 HEX: what is fetched is checked by it")


def find_data(text: str, sha256: str, step: Callable[[str], None]) -> Path:
    """The file that --data names, with the content that --data-sha256 says; step: shows progress

    Raises BadInput if its content is another, Unreachable if the hub does not give it.
    """
    if (here := Path(text)).is_file():
        if sha256 and (actual := _digest(here)) != sha256:
            raise BadInput(
                f"--data {text}: its SHA-256 is {actual}, not {sha256}: give the right file"
            )
        return here
    parts = _ON_HUB.fullmatch(text)
    assert parts
    repository, commit, path = parts.groups()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "spark-bench", "data")
    cached = cache / sha256 / PurePosixPath(path).name
    if cached.is_file() and _digest(cached) == sha256:
        return cached
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    url = f"{hub}/datasets/{repository}/resolve/{commit}/{quote(path)}"
    step(f"fetching {url}")
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        draft = Path(folder, "draft")
        if (actual := _fetch(url, draft)) != sha256:
            raise BadInput(
                f"--data {text}: what the hub has there has the SHA-256 {actual}, not {sha256}: "
                "nothing was kept"
            )
        draft.replace(cached)
    return cached


def _fetch(url: str, draft: Path) -> str:
    """Write what a URL has to a file; returns its SHA-256."""
    import httpx

    headers = {"accept-encoding": "identity"}
    if token := os.environ.get("HF_TOKEN"):
        headers["authorization"] = f"Bearer {token}"  # httpx sends it to no other host
    digest, size = hashlib.sha256(), 0
    try:
        with (
            draft.open("wb") as file,
            httpx.stream(
                "GET", url, headers=headers, follow_redirects=True, timeout=SECONDS
            ) as response,
        ):
            if not response.is_success:
                gated = response.status_code in (401, 403)
                cure = (
                    "accept its license at the hub, and set HF_TOKEN" if gated else "check --data"
                )
                raise Unreachable(f"{url}: HTTP {response.status_code}: {cure}")
            for piece in response.iter_raw(PIECE):
                size += len(piece)
                if size > MOST_BYTES:
                    raise BadInput(f"{url}: more than {MOST_BYTES} bytes: give a file with --data")
                digest.update(piece)
                file.write(piece)
    except httpx.HTTPError as error:
        raise Unreachable(f"{url}: {error}: give a file of this machine with --data") from None
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

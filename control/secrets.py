"""The controller's secrets: from files that nobody else can read, sent by stdin, never shown."""

import os
import stat
from pathlib import Path

from cluster.findings import Refused, error

# Where `hf auth login` leaves it (huggingface_hub.constants).
USUAL_FILE = "~/.cache/huggingface/token"


def find_token(token_file: str) -> str:
    """HF_TOKEN of the environment, the file that hf_token_file names, or the usual file; or ""."""
    if token := os.environ.get("HF_TOKEN", "").strip():
        return token
    if token_file:
        return _read("hf_token_file", Path(token_file).expanduser(), "hf auth login")
    usual = Path(os.environ.get("HF_TOKEN_PATH") or USUAL_FILE).expanduser()
    return _text(usual) if usual.is_file() else ""


def find_api_key(key_file: str) -> str:
    """The key in the file that api_key_file names; "" if it names none.

    Refused where the file could be read by others, or holds what no HTTP header can carry.
    """
    if not key_file:
        return ""
    path = Path(key_file).expanduser()
    cure = f"umask 077; openssl rand -hex 32 > {path}"
    key = _read("api_key_file", path, cure)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Refused(
            error(
                f"api_key_file = {str(path)!r} holds more than a key: it must be one line of "
                "printable ASCII without blanks",
                cure=cure,
                key="secret-invalid",
            )
        )
    return key


def find_private(setting: str, file: str, make: str) -> str:
    """The text of a file that nobody else can read; "" if the setting names none.

    + make: how to make one
    """
    return _read(setting, Path(file).expanduser(), make) if file else ""


def _read(setting: str, path: Path, make: str) -> str:
    """The text of a file that nobody else can read; Refused otherwise. make: how to make one."""
    if not path.is_file():
        raise Refused(
            error(
                f"{setting} = {str(path)!r} is not a file",
                cure=f"{make}, or: install -m 600 /dev/stdin {path}",
                key="secret-missing",
            )
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise Refused(
            error(
                f"{setting} = {str(path)!r} can be read by others",
                cure=f"chmod 600 {path}",
                key="secret-readable-by-others",
            )
        )
    if not (text := _text(path)):
        raise Refused(error(f"{setting} = {str(path)!r} is empty", cure=make, key="secret-invalid"))
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise Refused(
            error(
                f"the secret's file {path} cannot be read: {e}",
                cure=f"chmod 600 {path}",
                key="secret-unreadable",
            )
        ) from None

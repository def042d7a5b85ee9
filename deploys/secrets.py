"""The Hugging Face token: found on the controller, carried by stdin, never shown."""

from __future__ import annotations

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
        return _read(Path(token_file).expanduser())
    usual = Path(os.environ.get("HF_TOKEN_PATH") or USUAL_FILE).expanduser()
    return _text(usual) if usual.is_file() else ""


def _read(path: Path) -> str:
    if not path.is_file():
        raise Refused(
            error(
                f"hf_token_file = {str(path)!r} is not a file",
                cure=f"hf auth login, or: install -m 600 /dev/stdin {path}",
            )
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise Refused(
            error(f"hf_token_file = {str(path)!r} can be read by others", cure=f"chmod 600 {path}")
        )
    if not (token := _text(path)):
        raise Refused(error(f"hf_token_file = {str(path)!r} is empty", cure="hf auth login"))
    return token


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise Refused(
            error(f"the token file {path} cannot be read: {e}", cure=f"chmod 600 {path}")
        ) from None

"""POSIX sh scripts beside the modules that send them: files, so that shellcheck reads them."""

from pathlib import Path


def load_script(module: str, name: str) -> str:
    """The script's text as it is sent to a node: without its comment lines.

    + module: the sender's `__file__`
    + name: the script, relative to the sender's folder
    """
    lines = (Path(module).parent / name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))

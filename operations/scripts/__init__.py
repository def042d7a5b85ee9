"""Python that nodes run: each file as one text for `python3 -c`, with the gate that it imports."""

from pathlib import Path

from cluster.transfer import gate

# The gate under its own name, in packages that hold nothing else; then the script.
_BUNDLE = """import sys, types
for name in ("cluster", "cluster.transfer", "cluster.transfer.gate"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["cluster.transfer"].gate = sys.modules["cluster.transfer.gate"]
exec({gate!r}, sys.modules["cluster.transfer.gate"].__dict__)
exec(compile({script!r}, {name!r}, "exec"), {{"__name__": "__main__"}})
"""


def bundle(name: str) -> str:
    """The script of that file name in this folder, ready to be sent."""
    script = (Path(__file__).parent / name).read_text()
    return _BUNDLE.format(gate=Path(gate.__file__).read_text(), script=script, name=name)

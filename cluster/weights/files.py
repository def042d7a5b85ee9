"""A model's files: which of a repository's are wanted, and whether what is there is all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from re import compile

# The best first. A repository that has one kind needs no other.
KINDS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
# Weights of other programs: never ours.
OTHERS = (
    *(".onnx", ".onnx_data", ".h5", ".msgpack", ".ot", ".tflite", ".mlmodel", ".ckpt", ".nemo"),
    *(".npz", ".tar", ".gz", ".zip", ".pkl", ".pickle"),
)
# The same weights once more, as their authors or other programs want them: gpt-oss and Llama have
# original/, gpt-oss metal/.
FOLDERS = ("original", "metal", "onnx", "openvino", "coreml", "flax", "gguf", "runs")
# Mistral's own format, beside the same weights in the hub's.
CONSOLIDATED = "consolidated"
INDEX = "model.safetensors.index.json"
# huggingface_hub's and llama.cpp's names of shards: the last number says how many there are.
_SHARD = compile(r"([^/]+)-\d{5}-of-(\d{5})(\.\w+)")


@dataclass(frozen=True)
class File:
    """One file of a model.

    + path: below the model's folder; "" where the model is a lone file
    + kind: of hash: "sha256", or "git" (SHA-1 as git counts it: what the hub knows of small files)
    + by: who says that this is the hash: "hub"; "name" (a blob is named by it); "itself" (as first
      read here, nobody else knows)
    + blob: its name in the cache's blobs; "" where it is no link to one
    + mtime_ns: when it was read and found right; 0: not yet
    """

    path: str
    size: int
    kind: str
    hash: str
    by: str = "hub"
    blob: str = ""
    mtime_ns: int = 0

    def like(self, other: File | None) -> bool:
        """Whether two files have the same content."""
        mine = (self.size, self.kind, self.hash)
        return other is not None and mine == (other.size, other.kind, other.hash)


def picked(files: Iterable[File]) -> tuple[File, ...]:
    """What an engine needs of a repository: its weights in the best format that it has, once, and
    everything that is no weights."""
    kept = [f for f in files if not _foreign(f.path)]
    weights = [f for f in kept if _suffix(f.path) in KINDS]
    chosen = {f.path for f in _best(weights)}
    return tuple(f for f in kept if f not in weights or f.path in chosen)


def _foreign(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return parts[0].lower() in FOLDERS or _suffix(path) in OTHERS or parts[0] == ".git"


def _best(weights: list[File]) -> list[File]:
    """One format; at the top of the repository if it is there."""
    top = [f for f in weights if "/" not in f.path] or weights
    usual = [f for f in top if not f.path.startswith(CONSOLIDATED)] or top
    for kind in KINDS:
        if found := [f for f in usual if _suffix(f.path) == kind]:
            return found
    return []


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def needed(shards: Mapping[str, Iterable[str]], there: Iterable[str]) -> set[str]:
    """The weights' files: those that an index names, else what is there of one kind.

    + shards: the names in each *.index.json
    + there: files of the model's folder
    """
    # Some repositories hold the same weights in further formats, each with its index.
    for index in (INDEX, *sorted(shards)):
        if index in shards:
            return set(shards[index])
    names = set(there)
    for kind in (".safetensors", ".bin", ".gguf"):
        if lone := {name for name in names if name.endswith(kind)}:
            return {name for shard in lone for name in _siblings(shard)}
    return set()


def whole(shards: Mapping[str, Iterable[str]], there: Iterable[str]) -> bool:
    """Whether a model that nobody has a list of looks complete: its weights and its config."""
    names = set(there)
    wanted = needed(shards, names)
    config = "config.json" in names or all(name.endswith(".gguf") for name in wanted)
    return bool(wanted) and config and wanted <= names


def _siblings(name: str) -> set[str]:
    """A numbered shard and all that its number promises: a killed download may lack the index."""
    found = _SHARD.fullmatch(name)
    if not found:
        return {name}
    stem, count, suffix = found.groups()
    return {f"{stem}-{n:05}-of-{count}{suffix}" for n in range(1, int(count) + 1)}

"""Which files of a repository a model needs, and whether a folder has all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

# What SGLang's default loader looks for, in this order: srt/model_loader/loader.py,
# DefaultModelLoader._prepare_weights. A repository that has one kind needs no other.
KINDS = (".safetensors", ".bin", ".pt")
# Not weights of a model, despite the suffix: the trainer's state, as in SGLang's own
# filter_files_not_needed_for_inference, and files of OpenVINO and ggml.
NO_WEIGHTS = re.compile(
    r"(training_args|optimizer|scheduler|scaler|random_states.*)\.(bin|pt)|(openvino_|ggml).*"
)
# Weights of other programs: never ours.
OTHERS = (
    *(".onnx", ".onnx_data", ".data", ".h5", ".msgpack", ".ot", ".tflite", ".mlmodel", ".ckpt"),
    *(".nemo", ".npz", ".tar", ".gz", ".zip", ".pkl", ".pickle", ".pb", ".pte", ".engine"),
    *(".plan", ".llamafile", ".ggml", ".pdparams", ".pdiparams", ".dduf", ".litertlm", ".task"),
    *(".gguf", ".pth"),
)
# Folders with the same weights in a format for their authors or other programs (gpt-oss and Llama
# have original/, gpt-oss metal/), and with what git, the hub's client and a trainer leave.
FOLDERS = re.compile(
    r"original|metal|onnx|openvino.*|coreml|flax|tf|tensorflow|tflite|mlx|gguf|ggml|exl2|runs"
    r"|\.git|\.cache|checkpoint-\d+|global_step\d+",
    re.IGNORECASE,
)
# Mistral's own format, beside the same weights in the hub's.
CONSOLIDATED = "consolidated"
ADAPTER = "adapter_"
INDEX = "model.safetensors.index.json"
# huggingface_hub's and llama.cpp's names of shards: the last number says how many there are. A
# variant's word stands before or after the numbers (transformers, diffusers).
_NAME = re.compile(
    r"(?P<stem>.+?)(?:[._-](?P<before>{0}))?(?:-(?P<number>\d{{5,6}})-of-(?P<count>\d{{5,6}}))?"
    r"(?:[._-](?P<after>{0}))?(?P<suffix>\.\w+)".format(
        # Words for the same weights in another precision. Where there is no plain one, the first of
        # _PREFERRED that is there takes its place.
        "bf16|fp16|f16|half|fp32|f32|fp8|int8|8bit|int4|4bit|nf4|ema|non_ema"
    ),
    re.IGNORECASE,
)
_PREFERRED = ("", "bf16", "fp16", "f16", "half", "fp32", "f32")


@dataclass(frozen=True)
class WantedRepository:
    """What ranks read, and a deploy brings to the nodes: the model, or its draft model.

    + id: "org/name" on the hub; the model's may be a path on the nodes
    + revision: commit, branch or tag; "": what the head has, else the newest
    + weight_bytes: of its weights on disk; 0 where unknown
    + gated: the hub gives it only to who has accepted its license
    + draft: its model proposes tokens that the other one checks
    """

    id: str
    revision: str = ""
    weight_bytes: int = 0
    gated: bool = False
    draft: bool = False

    @property
    def local(self) -> bool:
        """Whether it is a path on the nodes, which no hub has."""
        return self.id.startswith(("/", "~/"))


@dataclass(frozen=True)
class File:
    """One file of a model.

    + path: below the model's folder; "" where the model is a lone file
    + kind: of hash: "sha256", or "git" (SHA-1 as git counts it: what the hub knows of small files)
    + by: where the hash comes from: "hub"; "name" (a blob is named by it); "itself" (the first
      reading here, the only source)
    + blob: its name in the cache's blobs; "" where it is no link to one
    + mtime_ns: its time when its hash was last verified; 0: not yet
    """

    path: str
    size: int
    kind: str
    hash: str
    by: str = "hub"
    blob: str = ""
    mtime_ns: int = 0

    def same_content(self, other: File | None) -> bool:
        """Whether two files have the same content."""
        mine = (self.size, self.kind, self.hash)
        return other is not None and mine == (other.size, other.kind, other.hash)


def select_files(files: Iterable[File]) -> tuple[File, ...]:
    """What an engine needs of a repository: its weights, once, in the best format that there is,
    and every file that is not weights."""
    ours = [f for f in files if not _foreign(f.path)]
    chosen = set(_weights([f.path for f in ours]))
    return tuple(f for f in ours if _suffix(f.path) not in KINDS or f.path in chosen)


def _foreign(path: str) -> bool:
    *folders, name = PurePosixPath(path).parts
    return (
        any(FOLDERS.fullmatch(folder) for folder in folders)
        or _suffix(path) in OTHERS
        or bool(NO_WEIGHTS.fullmatch(name))
    )


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _weights(names: Collection[str]) -> list[str]:
    """The weight files for SGLang to load: at the top level, of one format and precision."""
    top = [n for n in names if "/" not in n and not n.startswith(ADAPTER) and not _foreign(n)]
    usual = [n for n in top if not n.startswith(CONSOLIDATED) and _suffix(n) in KINDS] or top
    of_kinds = ([name for name in usual if _suffix(name) == kind] for kind in KINDS)
    # Names by stem, and by the word for their precision ("" for none).
    stems: dict[str, dict[str, list[str]]] = {}
    for name in next(filter(None, of_kinds), []):
        parts = _NAME.fullmatch(name)
        stem = parts["stem"] if parts else name
        variant = ((parts["before"] or parts["after"]) if parts else "") or ""
        stems.setdefault(stem, {}).setdefault(variant.lower(), []).append(name)
    chosen: list[str] = []
    for variants in stems.values():
        # The plain precision, else the preferred one; in shards where an index lists them.
        precision = next((word for word in _PREFERRED if word in variants), min(variants))
        numbered = [name for name in variants[precision] if _count(name)]
        lone = [name for name in variants[precision] if not _count(name)]
        if numbered and lone:
            indexed = any(f"{name}.index.json" in names for name in lone)
            chosen += numbered if indexed else lone
        else:
            chosen += variants[precision]
    return chosen


def _count(name: str) -> str:
    """The number of shards, as a shard's name has it; "" for a file that is no shard."""
    parts = _NAME.fullmatch(name)
    return (parts["count"] if parts else "") or ""


def required_weights(shards: Mapping[str, Iterable[str]], there: Iterable[str]) -> set[str]:
    """The weights' files: those that an index names, else what is there of one kind.

    + shards: the names in each *.index.json
    + there: files of the model's folder
    """
    chosen = set(_weights(list(there)))
    # Some repositories hold the same weights in further formats, each with its index.
    for index in (INDEX, *sorted(shards)):
        named = set(shards.get(index, ()))
        if named and (index == INDEX or not chosen or named & chosen):
            return named
    return {name for shard in chosen for name in _siblings(shard, chosen)}


def looks_complete(shards: Mapping[str, Iterable[str]], there: Iterable[str]) -> bool:
    """Whether a model without a list of its files looks complete: its weights and its config."""
    names = set(there)
    wanted = required_weights(shards, names)
    return bool(wanted) and "config.json" in names and wanted <= names


def _siblings(name: str, there: Collection[str]) -> set[str]:
    """A numbered shard and all that its number promises: a killed download may lack the index.
    Most count from 1 to N; some from 0, up to N - 1 or (gpt-oss) N."""
    parts = _NAME.fullmatch(name)
    if not parts or not parts["count"]:
        return {name}
    digits, count = len(parts["number"]), int(parts["count"])
    first, last = parts.span("number")
    # The name may claim any number: no model has more shards than this.
    every = [f"{name[:first]}{n:0{digits}}{name[last:]}" for n in range(min(count, 10_000) + 1)]
    return set(every[:-1]) if every[0] in there and every[-1] not in there else set(every[1:])


def find_load_problem(names: Iterable[str]) -> tuple[str, str] | None:
    """What is wrong with a model of these files, and its cure; None where SGLang can load it.

    The text continues a sentence about the model: "repository org/m", "the folder /raid/m".
    """
    there = set(names)
    if weights := _weights(there):
        sharded = {n for name in weights for n in _siblings(name, there)}
        lone = [name for name in weights if not _count(name)]
        if not lone and not any(_siblings(name, there) <= there for name in weights):
            return f"is missing shards of its weights ({_name_some(sharded - there)})", _UPLOAD_CURE
        if not there & {"config.json", "params.json"}:
            return "has no config.json: SGLang can't load it", _OTHER_CURE
        return None
    return next(
        (
            (what.format(_name_some(names)), cure)
            for fits, what, cure in _NOT_LOADED
            if (names := [name for name in there if fits(name)])
        ),
        ("has no weights", _OTHER_CURE),
    )


_UPLOAD_CURE = "use another revision, or ask its owner to complete it; on a node, copy it again"
_OTHER_CURE = "use a repository with the model as safetensors, in the format of transformers"
# Whether a name is of that kind, what that means, and the cure; the first kind that is there.
_NOT_LOADED: tuple[tuple[Callable[[str], object], str, str], ...] = (
    (
        lambda name: _suffix(name) == ".gguf",
        "has GGUF files ({}); SGLang loads a single one, by its path",
        "hf download ORG/NAME FILE.gguf --local-dir FOLDER on the head (join parts with "
        "llama-gguf-split --merge), then --data model=FOLDER/FILE.gguf",
    ),
    (
        lambda name: name.startswith(ADAPTER),
        "has an adapter ({}) but no model",
        "serve the model that its adapter_config.json names, with --lora-paths in extra_args",
    ),
    (
        lambda name: _suffix(name) == ".pth" or name.partition("/")[0] == "original",
        "has its authors' own format ({}), which SGLang does not load",
        "use the same model in the format of transformers: its name often ends in -hf",
    ),
    (
        lambda name: "/" in name and _suffix(name) in KINDS and not _foreign(name),
        "has its weights in subfolders ({}); SGLang loads only those beside config.json",
        "hf download ORG/NAME --include 'PART/*' --local-dir FOLDER on the head, then "
        "--data model=FOLDER/PART",
    ),
    (
        lambda name: _foreign(name) and _suffix(name) in (*OTHERS, *KINDS),
        "has weights for other programs ({})",
        _OTHER_CURE,
    ),
)


def _name_some(names: Iterable[str]) -> str:
    first, *more = sorted(names)
    return f"{first} and {len(more)} more" if more else first

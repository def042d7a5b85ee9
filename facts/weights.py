"""Model weights and tiktoken vocabularies on a node's disk."""

import re
from collections.abc import Mapping, Sequence

from pyinfra.api import QuoteString, StringCommand

from cluster.command import load_script
from cluster.node import readings
from cluster.transfer.repository import find_load_problem, looks_complete, required_weights
from facts.fact import Fact, count, home_path, join, quote

_LIST = load_script(__file__, "scripts/weights_list.sh")

_LOCAL = load_script(__file__, "scripts/weights_local.sh")

_CACHE = load_script(__file__, "scripts/weights_cache.sh")


class ModelWeights(Fact[readings.Weights]):
    """What the Hugging Face cache under `hf_cache` (an HF_HOME), or a local path, has of a model.

    + model: "org/name", or a path that begins with / or ~/
    + revision: commit, branch or tag; "" is main
    + config: also read config.json
    """

    def command(
        self, model: str, hf_cache: str, revision: str = "", *, config: bool = False
    ) -> StringCommand:
        show = "show=config; " if config else ""
        header = StringCommand(f"{show}printf 'model\\t%s\\n'", quote((model,)))
        if model.startswith(("/", "~/")):
            return join(header, "; at=", home_path(model), "\n", _LIST, "\n", _LOCAL)
        repo = f"{hf_cache.rstrip('/')}/hub/models--{model.replace('/', '--')}"
        named = QuoteString(revision or "main")
        place = join(header, "; name=", named, "; repo=", home_path(repo))
        return join(place, "\n", _CACHE, "\n", _LIST)

    def parse(self, output: list[str]) -> readings.Weights:
        words = dict(line.split("\t") for line in output if line.count("\t") == 1)
        shards: dict[str, set[str]] = {}  # index → the weights that it names
        sizes: dict[str, int] = {}
        for line in output:
            if line.startswith("shard\t") and line.count("\t") == 2:
                _, index, name = line.split("\t", 2)
                shards.setdefault(index, set()).add(name.strip('"'))
            # wc's lines; its "total" is no file of ours.
            size, name = [*line.split(maxsplit=1), "", ""][:2]
            if "\t" not in line and size.isdecimal() and name not in ("", "total"):
                sizes[name] = count(size)
        # A download or a copy that broke off leaves a file of no bytes.
        full = [name for name, size in sizes.items() if size]
        there = [*full, *(["config.json"] if "config" in output else [])]
        # A lone file, whose size has its whole path beside it.
        lone = full == [words["path"]]
        problem, cure = ("", "") if lone else _problem(output, words, sorted({*sizes} - {*full}))
        loadable = lone or (looks_complete(shards, there) and not problem)
        complete = loadable and "incomplete" not in output
        wanted = sum(
            sizes.get(name, 0) for name in (sizes if lone else required_weights(shards, there))
        )
        # A download resumes where it stopped: what is in blobs need not be downloaded again.
        begun = 0 if complete else count(words.get("blobs", "0")) * 1024
        return readings.Weights(
            model=words["model"],
            path=words["path"],
            complete=complete,
            bytes=max(wanted, begun),
            revision=words.get("revision", ""),
            problem=problem,
            cure=cure,
            config=words.get("json", ""),
        )


def _problem(output: list[str], words: dict[str, str], empty: list[str]) -> tuple[str, str]:
    """Why a local folder can't be served, and the cure; both "" if it can, or is not there.

    + empty: files of weights without a byte
    """
    names, pointers = (
        [line.partition("\t")[2] for line in output if line.startswith(f"{kind}\t")]
        for kind in ("file", "pointer")
    )
    if pointers:
        some = ", ".join(pointers[:3]) + (" …" if pointers[3:] else "")
        return (
            f"holds Git LFS pointers in place of {len(pointers)} file(s): {some}",
            f"cd {words['path']} && git lfs install && git lfs pull",
        )
    if names and empty:
        some = ", ".join(empty[:3]) + (" …" if empty[3:] else "")
        return f"holds {len(empty)} empty file(s): {some}", "copy them there again"
    return (names and find_load_problem(names)) or ("", "")


class Tiktoken(Fact[dict[str, str]]):
    """SHA-256 by name of the *.tiktoken files in a folder; {} if there are none."""

    default = staticmethod(dict[str, str])

    def command(self, folder: str) -> StringCommand:
        return StringCommand(
            join("folder=", home_path(folder), ";"),
            '[ -d "$folder" ] || exit 0; cd "$folder" || exit; set -- *.tiktoken;',
            '[ -e "$1" ] || exit 0; if command -v sha256sum >/dev/null;',
            'then sha256sum "$@"; else shasum -a 256 "$@"; fi',
        )

    def parse(self, output: list[str]) -> dict[str, str]:
        matches = [re.match(r"([0-9a-f]{64})\s+\*?(\S.*)", line) for line in output]
        return {line[2]: line[1] for line in matches if line}


MARK = "=== cached"


class CachedModels(Fact[dict[str, readings.Weights]]):
    """What the cache has of each of these models, by one command; {} if it has none of them.

    + models: ids on the hub
    + hf_cache: an HF_HOME
    + revisions: of those models for which another one than main counts
    """

    default = staticmethod(dict[str, readings.Weights])

    def command(
        self, models: Sequence[str], hf_cache: str, revisions: Mapping[str, str] | None = None
    ) -> StringCommand:
        parts = []
        for model in models:
            mark = StringCommand("printf '%s\\n'", QuoteString(f"{MARK} {model}"))
            reading = ModelWeights().command(model, hf_cache, (revisions or {}).get(model, ""))
            # A subshell of its own: the reading of a model that is not there exits.
            parts.append(join(mark, "; (\n", reading, "\n) || :"))
        return StringCommand(*parts, _separator="\n")

    def parse(self, output: list[str]) -> dict[str, readings.Weights]:
        by_model: dict[str, list[str]] = {}
        lines = list[str]()
        for line in output:
            mark, _, model = line.partition(f"{MARK} ")
            if not mark and model:
                lines = by_model[model] = list[str]()
            else:
                lines.append(line)
        weights_by_model = {
            model: ModelWeights().process(lines) for model, lines in by_model.items()
        }
        return {model: weights for model, weights in weights_by_model.items() if weights.bytes}

"""The catalog of models, and how a name becomes one of them."""

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from re import fullmatch

from cluster.findings import Refused, error

CATALOG = Path(__file__).with_name("models.toml")
BF16_BYTES = 2


@dataclass(frozen=True)
class Model:
    """A model and what serving it needs. None: unknown (a model outside the catalog).

    + id: Hugging Face id, or a path on the nodes: absolute, or from the login's home (~/)
    + alias, number: other names for it
    + weight_bytes: size of the checkpoint, as the runtime loads it
    + active_parameters: those read for each token, in a mixture of experts
    + head_dim: of queries and keys
    + kv_latent_dim: multi-head latent attention keeps one vector of this length a layer and token,
      on every rank: kv_heads then says nothing about the cache
    + mem_fraction: SGLang's share of free memory for weights and KV cache on a Spark
    + tiktoken: needs the tiktoken vocabularies (gpt-oss)
    + disable_cuda_graph: True or False if this model needs it
    + runtime: "docker" for SGLang, "process" for the engine embedded on this machine
    """

    id: str
    alias: str = ""
    number: int | None = None
    weight_bytes: int | None = None
    parameters: int | None = None
    active_parameters: int | None = None
    layers: int | None = None
    attention_heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    max_context: int | None = None
    gated: bool = False
    trust_remote_code: bool = False
    reasoning_parser: str = ""
    tool_call_parser: str = ""
    mem_fraction: float | None = None
    moe: bool = False
    tiktoken: bool = False
    disable_cuda_graph: bool | None = None
    license: str = ""
    notes: str = ""
    runtime: str = "docker"
    kv_latent_dim: int | None = None

    @property
    def local(self) -> bool:
        """Whether the weights are a path on the node, not a name on the hub."""
        return _is_path(self.id)

    def kv_bytes_per_token(self, tp: int = 1) -> int | None:
        """Bytes of KV cache (BF16) that one token takes on one of `tp` ranks; all layers.

        A rank holds at least one KV head: SGLang copies heads when tp is larger than their number.
        """
        if self.layers is None:
            return None
        if self.kv_latent_dim is not None:
            return self.layers * self.kv_latent_dim * BF16_BYTES
        if self.kv_heads is None or self.head_dim is None:
            return None
        return self.layers * 2 * max(1, self.kv_heads // tp) * self.head_dim * BF16_BYTES


@cache
def catalog() -> tuple[Model, ...]:
    """Every model of models.toml: the numbered ones in order, then the embedded one."""
    return tuple(Model(**entry) for entry in tomllib.loads(CATALOG.read_text())["models"])


def find_model(name: str | int) -> Model:
    """The model that a user calls by alias, number, Hugging Face id or local path.

    An `org/name` outside the catalog is taken as it is, its attributes unknown. Raises Refused for
    anything else, with the nearest names.
    """
    if isinstance(name, int) and not isinstance(name, bool):
        return _numbered(name)
    if not isinstance(name, str) or not name.strip():
        raise _refusal(name, "it must be an alias, a number, a Hugging Face id or a path", "")
    word = name.strip()
    if fullmatch(r"-?[0-9]{1,9}", word):
        return _numbered(int(word))
    return _by_name().get(word.lower()) or _outside(word)


@cache
def _by_name() -> dict[str, Model]:
    return {key.lower(): m for m in catalog() for key in (m.id, m.alias)}


def _numbered(number: int) -> Model:
    numbered = {m.number: m for m in catalog() if m.number is not None}
    if number not in numbered:
        raise _refusal(number, f"numbers are {min(numbered)} to {max(numbered)}", "")
    return numbered[number]


def _outside(word: str) -> Model:
    if _is_path(word) and ":" not in word:
        return Model(id=word)
    if word.startswith((".", "/", "~")) or word.lower().endswith(".gguf"):
        raise _refusal(word, "a path must be an absolute path on the nodes, without a colon", "/…")
    # huggingface_hub's validate_repo_id, with the owner required.
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    legal = fullmatch(rf"{part}/{part}", word) and len(word) <= 96
    if legal and "--" not in word and ".." not in word and not word.endswith(".git"):
        return Model(id=word)
    near = get_close_matches(word.lower(), _by_name(), n=3, cutoff=0.4)
    aliases = list(dict.fromkeys(_by_name()[n].alias for n in near))
    meant = f"; did you mean {' or '.join(aliases)}?" if aliases else ""
    allowed = "neither an alias of the catalog, nor org/name on the hub, nor a path"
    raise _refusal(word, f"{allowed}{meant}", aliases[0] if aliases else "")


def _is_path(word: str) -> bool:
    return word.startswith(("/", "~/"))


def _refusal(name: object, why: str, nearest: str) -> Refused:
    choice = nearest or catalog()[0].alias
    return Refused(
        error(
            f"model = {name!r} is not a model: {why}",
            cure=f"pyinfra INVENTORY deploy.py --data model={choice}",
        )
    )

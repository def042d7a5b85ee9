"""The catalog of models, and how a name becomes one of them."""

from difflib import get_close_matches
from functools import cache
from pathlib import Path
from re import fullmatch
from tomllib import loads

from msgspec import convert

from cluster.catalog.entry import Model
from cluster.findings import Refused, error

__all__ = ["Model", "catalog", "entries", "find_model"]

FOLDER = Path(__file__).parent
# What a deploy takes from an entry; for anything else settings have no place yet.
DECLARED = {
    *("image", "reasoning_parser", "tool_call_parser", "trust_remote_code"),
    *("mem_fraction", "disable_cuda_graph"),
}
DECLARED_IMAGE = "lmsysorg/sglang:spark"


@cache
def entries() -> tuple[Model, ...]:
    """Every entry of this folder: the numbered ones in order, then the embedded engine's.

    They are not checked each time: a test does that.
    """
    models = [convert(loads(file.read_text()), Model) for file in FOLDER.glob("*.toml")]
    return tuple(sorted(models, key=lambda model: (model.number is None, model.number)))


@cache
def catalog() -> tuple[Model, ...]:
    """The entries that can be deployed as they are."""
    return tuple(model for model in entries() if is_deployable(model))


def is_deployable(model: Model) -> bool:
    """Whether a deploy passes on all that the entry and its default variant state."""
    if model.image and model.image.reference != DECLARED_IMAGE:
        return False
    chosen = [v for v in model.variants if v.name == model.default_variant]
    below = [layer for variant in chosen for layer in (variant, *variant.forms)]
    return model.stated() <= DECLARED and not any(layer.stated() for layer in below)


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
    if word.startswith(("/", "~/")) and ":" not in word:
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


def _refusal(name: object, why: str, nearest: str) -> Refused:
    choice = nearest or catalog()[0].alias
    return Refused(
        error(
            f"model = {name!r} is not a model: {why}",
            cure=f"pyinfra INVENTORY deploy.py --data model={choice}",
        )
    )

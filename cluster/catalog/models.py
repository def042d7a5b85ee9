"""The catalog of models, and how a name becomes one of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from re import fullmatch
from tomllib import loads

from msgspec import convert

from cluster.catalog.entry import Model
from cluster.catalog.read_entry import read_entry
from cluster.findings import Finding, Refused, error, nearest_names, ok, warning

__all__ = ["Model", "catalog", "entries", "find_model"]

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class OwnEntry:
    """An owner's entry.

    + replaces: the aliases of the catalog's entries whose place it takes
    """

    file: Path
    model: Model
    replaces: tuple[str, ...]


# The owner's entries: those of the folder `catalog` beside the inventory that was read last.
_own: list[OwnEntry] = []


@cache
def entries() -> tuple[Model, ...]:
    """Every entry of this folder: the numbered ones in order, then the embedded engine's."""
    return _ordered(_read(file) for file in FOLDER.glob("*.toml"))


@cache
def _read(file: Path) -> Model:
    """One of the catalog's own entries. It is not checked here: a test checks them all."""
    return convert(loads(file.read_text()), Model)


def _ordered(models: Iterable[Model]) -> tuple[Model, ...]:
    return tuple(sorted(models, key=lambda m: (m.number is None, m.number or 0, m.alias)))


@cache
def catalog() -> tuple[Model, ...]:
    """All entries; an owner's replaces the catalog's of the same alias or id."""
    own = [entry.model for entry in _own]
    names = {name for model in own for name in (model.id.lower(), model.alias)}
    ours = [m for m in entries() if not names & {m.id.lower(), m.alias}]
    return _ordered([*ours, *own])


def include(folder: Path) -> None:
    """Use the owner's entries in this folder, and forget those of the folder before.

    An entry with the alias or id of a catalog entry takes its place, and its number if it has none.
    Raises Refused for a file that doesn't fit the schema, and for a number or an id that is taken.
    """
    included: list[OwnEntry] = []
    for file in sorted(folder.glob("*.toml")):
        model = read_entry(file)
        alike = [m for m in entries() if model.alias == m.alias or model.id.lower() == m.id.lower()]
        number = model.number or next((m.number for m in alike if m.number), None)
        others = [m for m in entries() if m not in alike] + [entry.model for entry in included]
        for other in others:
            if model.id.lower() == other.id.lower() or (number and number == other.number):
                same = "id" if model.id.lower() == other.id.lower() else f"number {number}"
                raise Refused(
                    error(
                        f"{file}: {same} is that of {other.alias} too",
                        cure=f"give it another, or the alias {other.alias} to take its place",
                        key="entry-duplicate",
                    )
                )
        included.append(
            OwnEntry(file, replace(model, number=number), tuple(m.alias for m in alike))
        )
    if included != _own:
        _own[:] = included
        catalog.cache_clear()
        _by_name.cache_clear()


def own_findings(model: Model) -> Iterator[Finding]:
    """What a deploy of a model reports about the owner's entries."""
    for entry in _own:
        if entry.model == model and entry.replaces:
            yield warning(
                f"{model.alias} is what {entry.file} says, not the catalog's {entry.replaces[0]}",
                cure=f"remove {entry.file} to have the catalog's again",
                key="entry-replaced",
            )
        elif entry.model == model:
            yield ok(f"{model.alias} is what {entry.file} says")


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
    file = FOLDER / f"{word.lower()}.toml"
    if not _own and fullmatch(r"[\w.-]+", word) and file.is_file():
        return _read(file)  # saves reading all of them
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
    near = nearest_names(word.lower(), _by_name(), cutoff=0.4)
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
            key="no-such-model",
        )
    )

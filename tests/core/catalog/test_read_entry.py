"""The catalog's files: each fits the schema, and what doesn't is named with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.catalog.entry import Form, Shape, Variant
from cluster.catalog.models import FOLDER, Model, entries
from cluster.catalog.read_entry import read_entry
from cluster.findings import Refused

FILES = sorted(FOLDER.glob("*.toml"))
SMALL = """
id = "org/small"
alias = "small"
license = "MIT"
default_variant = "plain"
[shape]
layers = 2
[[variants]]
name = "plain"
evidence = "derived"
[[variants.forms]]
nodes = 2
tp = 2
"""


def read(folder: Path, text: str) -> Model:
    file = folder / "small.toml"
    file.write_text(text)
    return read_entry(file)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(Refused) as caught:
        read(folder, text)
    assert all(f.cure.startswith("correct ") and f.cure for f in caught.value.findings)
    return "\n".join(map(str, caught.value.findings))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_entry_fits_the_schema_and_is_read_as_it_is_checked(file: Path) -> None:
    assert read_entry(file) in entries()


def test_an_entry_is_frozen_and_typed(tmp_path: Path) -> None:
    assert read(tmp_path, SMALL) == Model(
        id="org/small",
        alias="small",
        license="MIT",
        default_variant="plain",
        shape=Shape(layers=2),
        variants=(Variant(name="plain", evidence="derived", forms=(Form(nodes=2, tp=2),)),),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param("licence = 'MIT'", "licence is not a key of an entry; did you mean license?"),
        pytest.param("licence = 'MIT'", "small.toml: licence is not"),
        pytest.param("licence = 'MIT'", "an entry has: image, env, flags, "),
        pytest.param("[[drafts]]\nid = 'a/b'\nbytes = 1", "drafts[1].bytes is not a key"),
        pytest.param(
            "[[variants]]\nname = 'x'\nforms = [{ node = 1 }]", "variants[2].forms[1].node"
        ),
        pytest.param("number = '3'", "Expected `int | null`, got `str` - at `number`"),
        pytest.param("weight_bytes = 0", "Expected `int` >= 1 - at `weight_bytes`"),
        pytest.param("mem_fraction = 1.5", "at `mem_fraction`"),
        pytest.param("[[variants]]\nname = 'x'\nevidence = 'sure'", "Invalid enum value 'sure'"),
        pytest.param("revision = 'main'", "at `revision`"),
        pytest.param("image = { publisher = 'x', reference = 'a/b:c (own)' }", "`image.reference`"),
        pytest.param("flags = ['-x']", "at `flags[0]`"),
        pytest.param("flags = [", "can't be read as TOML"),
    ],
)
def test_keys_outside_the_schema_are_refused(tmp_path: Path, change: str, message: str) -> None:
    above, tables = (change, "") if "[[" not in change else ("", change)
    assert message in refusal(tmp_path, f"{above}\n{SMALL}\n{tables}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param('"small"', '"other"', "alias = 'other' must be the file's name, 'small'"),
        pytest.param('= "plain"\n[shape]', '= "fast"\n[shape]', "'fast' is none of plain"),
        pytest.param("tp = 2", "tp = 3", "variants.plain.forms.2: tp 3 x pp 1 does not divide"),
        pytest.param("", 'unknown = ["license"]', "unknown: license has a value, 'MIT'"),
        pytest.param("", 'unknown = ["licence"]', "unknown: licence is not a key"),
        pytest.param("", 'unknown = ["shape.layers"]', "unknown: shape.layers has a value, 2"),
        pytest.param("", 'flags = ["--tp 2"]', "--tp is stated by the key forms.tp"),
        pytest.param(
            "",
            'speculation = { algorithm = "DSPARK", draft = "a/b" }',
            "'a/b' is none of org/small",
        ),
        pytest.param(
            "",
            f'image = {{ reference = "a/b:c", publisher = "x", digest = "sha256:{"0" * 64}" }}',
            "digest and digest_source belong together",
        ),
        pytest.param(
            "", 'drafts = [{ id = "a/b" }, { id = "a/b" }]', "drafts: a/b is there 2 times"
        ),
        pytest.param("", 'values = [{ of = "tp", evidence = "derived" }]', "tp is not a key there"),
        pytest.param(
            "",
            'published = [{ nodes = 1, parallelism = "TP1", variant = "x", source = "s" }]',
            "published[1].variant = 'x' is none of plain",
        ),
        pytest.param(
            "",
            'published = [{ nodes = 1, parallelism = "TP1", model = "a/b", source = "s" }]',
            "published[1].model = 'a/b' is not in same_shapes",
        ),
    ],
)
def test_dangling_references_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = SMALL.replace(old, new, 1) if old else f"{new}\n{SMALL}"
    assert message in refusal(tmp_path, text)


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, f"one = 1\n{SMALL}two = 2")
    assert "one is not a key" in message and "variants[1].forms[1].two is not a key" in message


def test_a_variant_or_a_form_twice_is_refused(tmp_path: Path) -> None:
    twice = SMALL[SMALL.index("[[variants]]") :]
    assert "plain is there 2 times" in refusal(tmp_path, SMALL + twice)
    form = SMALL[SMALL.index("[[variants.forms]]") :]
    assert "2 for 2 nodes" in refusal(tmp_path, SMALL + form)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="can't be read as TOML"):
        read_entry(tmp_path / "none.toml")


def test_numbers_aliases_and_ids_are_unique() -> None:
    models = entries()
    numbers = [m.number for m in models if m.number is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({m.alias.lower() for m in models}) == len({m.id.lower() for m in models})
    assert len({m.id.lower() for m in models}) == len(models)
    assert [m.alias for m in models if m.number is None] == ["smollm2"]


@pytest.mark.parametrize("model", entries(), ids=lambda m: m.alias)
def test_default_images_are_pinned_and_official(model: Model) -> None:
    """What follows `latest` would be another image tomorrow."""
    variant = next((v for v in model.variants if v.name == model.default_variant), None)
    images = [layer.image for layer in (model, variant) if layer and layer.image]
    assert not any(image.third_party or image.tag_from_prose for image in images)
    assert not any(image.reference.endswith(":latest") for image in images)

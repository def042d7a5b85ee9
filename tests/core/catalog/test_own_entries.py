"""Entries of an owner, in a folder beside the inventory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.catalog.models import catalog, entries, find_model, include, own_findings
from cluster.findings import Refused

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write an entry and take its folder's."""

    def entry(alias: str, id: str = "", more: str = "") -> Path:
        file = tmp_path / f"{alias}.toml"
        file.write_text(f'id = "{id or f"me/{alias}"}"\nalias = "{alias}"\n{more}\n')
        include(tmp_path)
        return file

    yield entry
    include(tmp_path / "none")


def refusal(write: Write, *entry: str) -> str:
    with pytest.raises(Refused) as caught:
        write(*entry)
    return "\n".join(map(str, caught.value.findings))


def test_without_a_folder_only_our_entries_exist(tmp_path: Path) -> None:
    include(tmp_path / "catalog")
    assert set(catalog()) <= set(entries())
    assert not list(own_findings(find_model("qwen7b")))


def test_an_entry_is_found_by_its_alias_id_and_number(write: Write) -> None:
    file = write("mine", "me/Mine", "number = 100\nmem_fraction = 0.5")
    model = find_model("mine")
    assert model == find_model("me/mine") == find_model(100) and model.mem_fraction == 0.5
    assert catalog()[-2:] == (model, find_model("smollm2"))
    assert [str(f) for f in own_findings(model)] == [f"mine is what {file} says"]


def test_an_entry_overrides_ours_and_is_reported(write: Write) -> None:
    file = write("qwen7b", "me/seven", "number = 3")
    write("fast20b", "openai/gpt-oss-20b")
    assert [m.id for m in catalog()[1:4]] == [
        "openai/gpt-oss-20b",
        "me/seven",
        "Qwen/Qwen2.5-14B-Instruct",
    ]
    assert find_model(3).id == find_model("qwen7b").id == "me/seven"
    assert find_model(2).alias == "fast20b"
    assert len(catalog()) == 41
    (warned,) = own_findings(find_model("qwen7b"))
    assert str(warned) == (
        f"qwen7b is what {file} says, not the catalog's qwen7b -> remove {file} to have the "
        "catalog's again"
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(("mine", "", "number = 3"), "number 3 is that of qwen7b too", id="number"),
        pytest.param(("mine", "", "numbre = 30"), "did you mean number?", id="schema"),
        pytest.param(("Mine",), "at `alias`", id="capital"),
        pytest.param(("30",), "would be taken for a number", id="number-as-alias"),
    ],
)
def test_an_invalid_entry_is_refused(write: Write, entry: tuple[str, ...], message: str) -> None:
    assert message in refusal(write, *entry)
    assert set(catalog()) <= set(entries())


def test_two_entries_of_one_model_are_refused(write: Write) -> None:
    write("mine", "me/same")
    assert "id is that of mine too" in refusal(write, "other", "me/Same")


def test_the_last_included_folder_wins(write: Write, tmp_path: Path) -> None:
    write("mine")
    include(tmp_path / "none")
    assert "mine" not in {m.alias for m in catalog()}

"""Recorded conversations from a file: which are drawn, and what a broken file says."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from spark_bench.errors import BadInput
from spark_bench.prompts import sharegpt
from spark_bench.prompts.compose import Overhead
from spark_bench.prompts.tokens import ApproximateTokens
from spark_bench.record import Message, Prompt

TOKENS = ApproximateTokens()


def talk(question: str, answer: str) -> dict[str, object]:
    return {
        "id": "x",
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
    }


def numbered(number: int) -> dict[str, object]:
    return talk(f"what is number {number}", "it is " + "good " * (number % 7 + 1))


def write_list(path: Path, values: list[object]) -> Path:
    path.write_text(json.dumps(values, indent=1))
    return path


def write_lines(path: Path, values: list[object]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values) + "\n")
    return path


FORMS = [pytest.param(write_list, id="list"), pytest.param(write_lines, id="lines")]
Write = Callable[[Path, list[object]], Path]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "talks.json"


def load(path: Path, count: int = 1, seed: int = 1, **options: object) -> list[Prompt]:
    return sharegpt.load_sharegpt(path, count, seed, TOKENS, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("write", FORMS)
def test_questions_with_the_length_of_their_answers(file: Path, write: Write) -> None:
    prompts = load(write(file, [numbered(n) for n in range(50)]), 20)
    assert [prompt.conversation for prompt in prompts] == list(range(20))
    for prompt in prompts:
        (message,) = prompt.messages
        number = int(message.content.split()[-1])
        assert message == Message("user", f"what is number {number}")
        assert prompt.input_tokens == 4
        assert prompt.output_tokens == 2 + number % 7 + 1


def test_list_and_lines_draw_the_same(tmp_path: Path) -> None:
    values: list[object] = [numbered(n) for n in range(50)]
    one = write_list(tmp_path / "a.json", values)
    other = write_lines(tmp_path / "b.jsonl", values)
    assert load(one, 20) == load(other, 20)


def test_the_seed_draws(file: Path) -> None:
    write_list(file, [numbered(n) for n in range(50)])
    assert load(file, 20) == load(file, 20)
    assert load(file, 20) != load(file, 20, seed=2)
    assert load(file, 20)[:5] == load(file, 5)


def test_all_questions_can_be_drawn_each_once(file: Path) -> None:
    write_list(file, [numbered(n) for n in range(500)])
    assert len({prompt.messages for prompt in load(file, 500)}) == 500


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(
            {"conversation": talk("hi there", "good day")["conversations"]}, id="singular"
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "hi there"},
                    {"role": "assistant", "content": "good day"},
                ]
            },
            id="openai",
        ),
        pytest.param(
            {
                "conversations": [
                    {"from": "system", "value": "be kind"},
                    {"from": "gpt", "value": "hello"},
                    {"from": "human", "value": "one"},
                    {"from": "human", "value": "hi there"},
                    {"from": "gpt", "value": "good day"},
                    {"from": "human", "value": "and now"},
                    {"from": "gpt", "value": "well"},
                ]
            },
            id="first-pair",
        ),
    ],
)
def test_each_sharegpt_format_is_read(file: Path, entry: dict[str, object]) -> None:
    (prompt,) = load(write_lines(file, [entry]))
    assert prompt == Prompt((Message("user", "hi there"),), 2, 2)


def test_template_output_and_context(file: Path) -> None:
    write_list(file, [talk("hi there", "good day"), talk("good " * 80, "good day")])
    (prompt,) = load(file, 1, overhead=Overhead(30, 11), output_tokens=9, context=41)
    assert prompt == Prompt((Message("user", "hi there"),), 32, 9)


SHORT: list[object] = [
    talk("hi", "good day"),
    talk("hi there", "good"),
    {"conversations": []},
    {"conversations": [{"from": "gpt", "value": "good day"}, {"from": "human", "value": "hi all"}]},
]


def test_too_few_usable_entries(file: Path) -> None:
    write_list(file, [*SHORT, numbered(1), numbered(2)])
    assert len(load(file, 2)) == 2
    with pytest.raises(BadInput, match=r"--num-prompts 3 is more than .*: 2 of its 6 entries"):
        load(file, 3)


def test_rare_usable_entries_are_found(file: Path) -> None:
    write_list(file, [*(SHORT * 500), numbered(1)])
    assert len(load(file, 1)) == 1


@pytest.mark.parametrize("content", ["", "[]", "\n \n", " [ ] "])
def test_an_empty_file(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(BadInput, match="0 of its 0 entries"):
        load(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("hello", "line 1: not JSON .* expected a JSON list, or one JSON", id="text"),
        pytest.param('{"conversations": []}\n{"conv', "line 2: not JSON", id="half-line"),
        pytest.param('[{"conversations": []}, {"conv', "entry 2: not JSON", id="half-list"),
        pytest.param('[{"conversations": []}', "entry 1: no comma after it", id="no-end"),
        pytest.param('[{"conversations": []} {}]', "entry 1: no comma after it", id="no-comma"),
        pytest.param('[{"conversations": []},]', "entry 2: not JSON", id="comma-at-the-end"),
    ],
)
def test_a_malformed_file_says_where_and_what(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(BadInput, match=message):
        load(file)


ODD: list[object] = [
    7,
    None,
    "hi",
    ["hi"],
    {},
    {"data": []},
    {"messages": "hi"},
    {"messages": ["hi", None]},
    {"messages": [{"from": "human"}, {"from": "gpt"}]},
    {"messages": [{"role": "system", "content": "be kind"}]},
    {"messages": [{"role": 5, "content": "hi there"}, {"role": None, "content": "good day"}]},
    {"messages": [{"content": "hi there"}, {"content": "good day"}]},
    {"messages": [{"role": "user", "content": 5}, {"role": "assistant", "content": 7.5}]},
    {
        "messages": [
            {"role": "user", "content": "what is the weather"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]},
            {"role": "tool", "content": "12 degrees"},
            {"role": "assistant", "content": "it is cold"},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            {"role": "assistant", "content": "a picture"},
        ]
    },
    {"conversations": [{"from": "human", "value": {"a": ["b"]}}, {"from": "gpt", "value": []}]},
]


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_odd_rows_are_skipped_counted_and_reported(file: Path, write: Write, bom: str) -> None:
    write(file, [*ODD, numbered(1), *ODD, numbered(2)])
    file.write_text(bom + file.read_text())
    lines: list[str] = []
    assert len(load(file, 2, tell=lines.append)) == 2
    assert lines == [
        f"{2 * len(ODD)} of the {2 * len(ODD) + 2} entries of talks.json were skipped: they "
        "have no question and answer in text"
    ]


def test_nothing_is_reported_if_all_rows_are_right(file: Path) -> None:
    lines: list[str] = []
    load(write_list(file, [numbered(1), numbered(2)]), 1, tell=lines.append)
    assert not lines


def test_a_file_of_only_odd_rows_reports_the_expected_format(file: Path) -> None:
    with pytest.raises(BadInput, match=r"has no question with an answer; expected \{"):
        sharegpt.check_sharegpt(write_list(file, ODD))


@pytest.mark.parametrize("write", FORMS)
def test_rows_that_are_nested_too_deep_are_an_error(file: Path, write: Write) -> None:
    write(file, [{"a": 1}])
    deep = "[" * 100_000 + "]" * 100_000
    file.write_text(file.read_text().replace("1", deep))
    with pytest.raises(BadInput, match=r"(line|entry) 1: n"):
        load(file)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        pytest.param({"from": "Human"}, {"from": "chatgpt"}, id="roles"),
        pytest.param({"role": "user"}, {"role": "assistant"}, id="openai"),
    ],
)
@pytest.mark.parametrize("name", ["value", "content", "text"])
def test_names_of_roles_and_texts(
    file: Path, question: dict[str, str], answer: dict[str, str], name: str
) -> None:
    talk = [question | {name: "hi there"}, answer | {name: "good day"}]
    (prompt,) = load(write_list(file, [{"conversations": talk}]))
    assert prompt == Prompt((Message("user", "hi there"),), 2, 2)


def test_parts_of_text_are_one_text(file: Path) -> None:
    parts = [{"type": "text", "text": "hi "}, {"type": "text", "text": "there"}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": ["good day"]}]
    (prompt,) = load(write_list(file, [{"messages": talk}]))
    assert prompt.messages == (Message("user", "hi there"),)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.json can't be read: No such file"):
        load(tmp_path / "none.json")
    with pytest.raises(BadInput, match="can't be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'[{"a": "\xe9"}]')
    with pytest.raises(BadInput, match="is not UTF-8 text"):
        load(tmp_path / "latin.json")


@pytest.mark.parametrize("window", [1, 2, 7, 64])
def test_entries_are_the_same_wherever_the_reads_end(
    file: Path, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [numbered(1), {"a": ["]", '\\" , é']}, talk("[", "]"), {}]
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(sharegpt, "WINDOW", window)
    assert [entry.value for entry in sharegpt.read_entries(file)] == values


def test_a_large_file_is_not_held_in_memory(file: Path) -> None:
    write_lines(file, [talk("what is it", "good " * 400)] * 10_000)
    assert file.stat().st_size > 20e6
    tracemalloc.start()
    load(file, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6

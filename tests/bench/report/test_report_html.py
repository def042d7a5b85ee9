"""The page as a file: whole, safe, small, quickly made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
import vl_convert
from click.testing import CliRunner
from msgspec.structs import replace
from report_samples import HOSTILE, result, save, several, variants
from spark_bench.cli import main
from spark_bench.metrics.accepted import Accepted, CoursePart
from spark_bench.results import codec
from spark_bench.results.schema import Result
from spark_bench.results.suite_results import CaseRow, SuiteLoad, SuiteResults, encode_results

LOADING = {"src", "srcset", "poster", "data", "action", "background", "xlink:href", "formaction"}


class Page(HTMLParser):
    """Its elements, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def report(folder: Path, *words: str) -> str:
    """Type `spark-bench report`; what it wrote."""
    target = folder / "page.html"
    done = CliRunner().invoke(main, ["report", *words, "-o", str(target)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return target.read_text()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are empty, for what is not about them: drawing takes most of a page's time."""
    empty = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda spec, **options: empty)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("usual")
    return report(folder, str(save(several(), folder / "results")))


def test_the_page_loads_nothing(usual: str) -> None:
    page = Page(usual)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "img", "image"}
        assert not LOADING & attributes.keys(), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"url\(|@import|@font-face", usual)
    policy = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_every_part_of_the_page_is_present(usual: str) -> None:
    ids = {attributes.get("id") for _, attributes in Page(usual).tags}
    parts = "best load-1 pareto distributions timeline expectations waits trust matrix origins"
    assert set(parts.split()) <= ids


def test_every_link_leads_somewhere_and_no_id_is_there_twice(usual: str) -> None:
    tags = Page(usual).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for tag, attributes in tags if tag == "a"}
    assert {link.removeprefix("#") for link in links if link} <= set(ids)


def test_every_chart_is_drawn_described_and_in_a_table(usual: str) -> None:
    page = Page(usual)
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    figures = [tag for tag, _ in page.tags if tag == "figure"]
    assert len(charts) == 2 * len(figures) == 2 * 8
    assert all(chart["role"] == "img" and len(chart["aria-label"] or "") > 40 for chart in charts)
    assert len([tag for tag, _ in page.tags if tag == "table"]) == 3 + len(figures)


def test_a_failed_model_is_a_row_with_its_kind_and_cure(usual: str) -> None:
    assert "DeepSeek-R1" in usual
    assert "16 http_500" in usual
    assert "check the server&#39;s log for the error" in usual


@pytest.mark.usefixtures("undrawn")
def test_unmeasured_models_are_rows_with_their_diagnosis(tmp_path: Path) -> None:
    folder = save([result()], tmp_path / "results")
    failed = CaseRow(
        model="Qwen/Qwen2.5-72B",
        model_short="qwen72b",
        nodes=2,
        tp=2,
        status="STARTUP_FAILED",
        name="qwen72b",
        diagnosis=f"not ready after 600 s {HOSTILE}",
    )
    load = SuiteLoad(profile="quick", num_prompts=10, input_len=128, output_len=128)
    rows = SuiteResults(
        timestamp="", config=load, total_time_seconds=1.0, models_tested=1, results=(failed,)
    )
    (folder / "results.json").write_bytes(encode_results(rows))
    page = report(tmp_path, str(folder))
    text = "".join(Page(page).text)
    assert page.count("STARTUP_FAILED") == 2
    assert f"not ready after 600 s {HOSTILE}" in text
    assert "Qwen2.5-72B" in text


def test_hostile_text_in_results_stays_text(tmp_path: Path) -> None:
    results = [_hostile(result(index, concurrency=load)) for index, load in enumerate((1, 4, 16))]
    results.append(_hostile(result(9, failure="http_500")))
    page = report(tmp_path, str(save(results, tmp_path / "results")), "--title", HOSTILE)
    elements = Page(page)
    assert not {"script", "img"} & {tag for tag, _ in elements.tags}
    assert not [a for _, a in elements.tags if any(name.startswith("on") for name in a)]
    assert "".join(elements.text).count(HOSTILE) > 10
    labels = [a["aria-label"] for tag, a in elements.tags if tag == "svg"]
    assert any("<img src=x onerror=alert('x')>" in (label or "") for label in labels)
    assert "49" not in "".join(re.findall(r"&amp;amp;(.{0,8})", page))


@pytest.mark.usefixtures("undrawn")
def test_variants_and_two_groups_have_their_comparison(tmp_path: Path) -> None:
    before = save([result(index) for index in range(3)], tmp_path / "before")
    after = save([result(10 + i, itl_ms=25 + i / 100) for i in range(3)], tmp_path / "after")
    page = report(tmp_path, str(before), str(after))
    assert 'id="baseline"' in page
    assert "output_throughput" in page
    assert 'id="trend"' in page
    assert 'id="baseline"' not in report(tmp_path, str(before))


@pytest.mark.usefixtures("undrawn")
def test_groups_that_can_not_be_compared_say_why(tmp_path: Path) -> None:
    before = save([result(0)], tmp_path / "before")
    after = save([result(1, concurrency=8)], tmp_path / "after")
    assert "can&#39;t be compared" in report(tmp_path, str(before), str(after))


@pytest.mark.usefixtures("undrawn")
def test_variants_are_distinguished(tmp_path: Path) -> None:
    page = report(tmp_path, str(save(variants(), tmp_path / "results")))
    assert "gpt-oss-120b tp=1" in page
    assert "gpt-oss-120b tp=2" in page


@pytest.mark.parametrize("failure", ["", "cut"], ids=["good", "failed"])
def test_a_single_run_is_enough(failure: str, tmp_path: Path) -> None:
    page = report(tmp_path, str(save([result(failure=failure)], tmp_path / "results")))
    assert ('id="pareto"' in page) == (not failure)
    assert 'id="matrix"' in page


@pytest.mark.usefixtures("undrawn")
def test_repeats_show_the_distributions_and_the_timeline_of_the_last(tmp_path: Path) -> None:
    whole = result()
    repeated = _repeated(whole)
    page = report(tmp_path, str(save([repeated], tmp_path / "results")))
    assert "repeat 2" in page
    assert 'id="distributions"' in page


@pytest.mark.usefixtures("undrawn")
def test_samples_without_a_figure_are_no_timeline(tmp_path: Path) -> None:
    whole = result()
    assert whole.server
    samples = whole.server.samples
    nothing = tuple(None for _ in samples.at)
    samples = replace(samples, running=nothing, queued=nothing, throughput=nothing)
    row = replace(whole, nodes=None, server=replace(whole.server, samples=samples))
    assert 'id="timeline"' not in report(tmp_path, str(save([row], tmp_path / "results")))


def test_curves_of_many_models_have_colours_of_their_own(tmp_path: Path) -> None:
    """Twelve models are faster than the two of the sweep, and take the page's colours."""
    fast = [result(50 + index, f"fast-{index}", 8, 20.0, 2.0) for index in range(12)]
    page = report(tmp_path, str(save([*several(), *fast], tmp_path / "results")))
    section = page[page.index('id="load-1"') : page.index('id="pareto"')]
    drawn = set(re.findall(r'stroke="var\(--(s\d)\)"', section))
    assert drawn == {"s1", "s2"}


def test_the_default_is_the_folder_of_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(several()[:2], tmp_path / "benchmark_results")
    done = CliRunner().invoke(main, ["report"])
    assert done.exit_code == 0
    assert done.output.startswith("report.html: 2 runs, ")
    assert Path("report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["nowhere"], "nowhere does not exist", id="no such file"),
        pytest.param([".", "--timeline", "x"], "--timeline: 'x' is not one", id="no such run"),
    ],
)
def test_mistyped_arguments_are_reported_and_nothing_is_written(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save([result()], tmp_path)
    done = CliRunner().invoke(main, ["report", *words])
    assert done.exit_code == 2
    assert message in done.output
    assert not Path("report.html").exists()


def test_a_thousand_results_make_a_small_page_quickly(tmp_path: Path) -> None:
    base = [*several(), *variants()]
    folder = tmp_path / "results"
    folder.mkdir()
    for number in range(1000):
        each = base[number % len(base)]
        result = replace(
            each,
            id=f"{number:06}-{each.id}",
            created=each.created + timedelta(hours=number),
            notes=(f"Note {number // 5}.",),
        )
        (folder / f"{number}.json").write_bytes(codec.encode_result(result))
    code = (
        "import resource, sys\n"
        "from spark_bench.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)\n"
    )
    target = tmp_path / "page.html"
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(folder), "-o", str(target)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    memory, seconds = map(float, done.stdout.split("\n")[-2].split())
    # CPU time: other tests may have the machine's cores at the same time.
    assert seconds <= 10
    assert memory <= 2**30
    assert target.stat().st_size <= 5_000_000
    assert target.read_text().count('<tr id="run-') == 1000


def _hostile(result: Result) -> Result:
    provenance = result.provenance
    server = replace(provenance.server, engine=HOSTILE, settings={HOSTILE: HOSTILE})
    return replace(
        result,
        config=replace(result.config, model=HOSTILE, url=f"http://{HOSTILE}", profile=HOSTILE),
        provenance=replace(provenance, server=server),
        audit=replace(result.audit, verdict="approximate", reasons=(HOSTILE,)),
        notes=(HOSTILE,),
    )


def _repeated(whole: Result) -> Result:
    from spark_bench.results.schema import Repeat

    repeats = tuple(
        Repeat(
            repeat=number,
            started=whole.created,
            summary=whole.summary,
            audit=whole.audit,
            lengths=whole.lengths,
            distributions=whole.distributions,
            server=whole.server,
            nodes=whole.nodes,
        )
        for number in range(2)
    )
    return replace(whole, repeats=repeats, distributions=None, server=None, nodes=None)


@pytest.mark.usefixtures("undrawn")
def test_accepted_lengths_are_claimed_only_where_they_are_known(tmp_path: Path) -> None:
    part = CoursePart(0, 120, 2.6)
    known = Accepted(
        unclear="",
        source="usage",
        mean=2.5,
        std=0.4,
        low=2.1,
        high=2.9,
        steps=(60, 60),
        left_out=1,
        course=(part,),
        engine=2.45,
    )
    results = [
        result(0, accepted=known),
        result(1, accepted=replace(known, unclear="<b>why</b>", mean=77.7, engine=None)),
        result(2, accepted=replace(known, mean=1.0)),
    ]
    page = report(tmp_path, str(save(results, tmp_path / "results")))
    section = page[page.index('<section id="accepted"') :]
    section = section[: section.index("</section>")]
    for text in ("2.50", "answers 2.10 to 2.90", "2.6", "2.45", "the server&#39;s counts"):
        assert text in section
    assert "&lt;b&gt;why&lt;/b&gt;" in section and "77.7" not in section
    assert 'class="n warn"' in section  # of drafts that are never accepted
    assert 'id="accepted"' not in report(tmp_path, str(save([result(0)], tmp_path / "plain")))

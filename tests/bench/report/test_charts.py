"""Charts as SVG: what the page needs of Vega's drawing, whichever version drew it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from spark_bench.report.charts.plot import Curve, Point, fitting_axis, load_axis, plot_curves
from spark_bench.report.charts.svg import NARROW, WIDE, Layout, draw_chart

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = """<b>"x" & 'y'</b>\x1b[2J\u202e"""
POINTS = (
    Point(1.0, 30.0, f"first {HOSTILE}"),
    Point(4.0, 120.0, "second"),
    Point(8.0, 900.0, "third"),
)


def drawn(layout: Layout) -> ElementTree.Element:
    x, y = load_axis([1, 4, 8], "requests in flight"), fitting_axis([30, 900])
    curve = Curve("a model", 0, POINTS, mark=Point(4.0, 120.0, "knee 4"))
    text = draw_chart(lambda layout: plot_curves([curve], x, y, layout), HOSTILE, layout)
    return ElementTree.fromstring(text)


@pytest.fixture(scope="module", params=[WIDE, NARROW], ids=["wide", "narrow"])
def layout(request: pytest.FixtureRequest) -> Layout:
    chosen: Layout = request.param
    return chosen


@pytest.fixture(scope="module")
def chart(layout: Layout) -> ElementTree.Element:
    return drawn(layout)


def test_a_chart_has_its_layouts_width_and_its_alternative_text(
    chart: ElementTree.Element, layout: Layout
) -> None:
    assert chart.tag == f"{SVG}svg"
    assert chart.attrib.keys() == {"class", "role", "aria-label", "viewBox"}
    assert (chart.attrib["class"], chart.attrib["role"]) == (layout.name, "img")
    assert chart.attrib["aria-label"] == """<b>"x" & 'y'</b>?"""
    left, top, width, height = map(float, chart.attrib["viewBox"].split())
    assert (left, top, width) == (0, 0, layout.total)
    assert layout.height < height < layout.height + 100


def test_each_dot_has_a_title_which_browsers_show(chart: ElementTree.Element) -> None:
    titles = [title.text for title in chart.iter(f"{SVG}title")]
    assert titles == ["""first <b>"x" & 'y'</b>?""", "second", "third"]
    parents = [element for element in chart.iter() if element.find(f"{SVG}title") is not None]
    assert {element.tag for element in parents} == {f"{SVG}path"}


def test_only_the_chart_speaks_to_screen_readers_and_the_page_chooses_the_font(
    chart: ElementTree.Element,
) -> None:
    inner = [element for element in chart.iter() if element is not chart]
    assert not [element for element in inner if "aria-label" in element.attrib]
    assert not [element for element in inner if "font-family" in element.attrib]


def test_axes_curves_and_names_are_drawn(chart: ElementTree.Element, layout: Layout) -> None:
    texts = [text.text for text in chart.iter(f"{SVG}text") if text.text]
    assert {"1", "4", "8", "requests in flight", "knee 4"} <= set(texts)
    assert {"20", "50", "100", "200", "500", "1,000"} <= set(texts)
    assert ("a model" in texts) == layout.labels
    lines = [p for p in chart.iter(f"{SVG}path") if p.attrib.get("stroke") == "var(--s1)"]
    assert len([path for path in lines if path.attrib.get("stroke-width") == "2"]) == 1

"""The report's page in a real Chromium: desktop, phone, in the dark, printed, by keyboard."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium

Keep = Callable[[str, bytes], None]

DESKTOP, PHONE = (1280, 900), (360, 740)
SCREENS = [
    pytest.param(*DESKTOP, False, id="desktop"),
    pytest.param(*DESKTOP, True, id="desktop-dark"),
    pytest.param(800, 1000, False, id="tablet"),
    pytest.param(*PHONE, False, id="phone"),
    pytest.param(*PHONE, True, id="phone-dark"),
]

# Each figure's visible charts: their size, how many lines have a length, the size of their text.
CHARTS = """
[...document.querySelectorAll("figure")].map(figure => {
  const shown = [...figure.querySelectorAll("svg")].filter(
    svg => svg.getBoundingClientRect().width);
  const svg = shown[0], box = svg.getBoundingClientRect();
  const scale = box.width / svg.viewBox.baseVal.width;
  return {
    shown: shown.length, width: box.width, height: box.height,
    inside: box.right <= document.documentElement.clientWidth,
    paths: [...svg.querySelectorAll("path")].filter(path => path.getTotalLength() > 20).length,
    text: Math.min(...[...svg.querySelectorAll("text")].map(
      text => parseFloat(getComputedStyle(text).fontSize) * scale)),
    beyond: [...svg.querySelectorAll("text")].filter(
      text => text.getBoundingClientRect().right > box.right + 12).map(text => text.textContent),
  };
})
"""

# Every text against the nearest background behind it, by WCAG 2: [ratio, text, colour].
CONTRASTS = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  return [...document.querySelectorAll("body *")].filter(element =>
    element.getBoundingClientRect().width &&
    [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
  ).map(element => {
    const style = getComputedStyle(element), svg = element.namespaceURI.endsWith("svg");
    const colour = svg ? style.fill : style.color;
    const [a, b] = [light(rgba(colour)), light(ground(element))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), element.textContent.trim().slice(0, 40), colour];
  });
})()
"""

FOCUSED = """
(() => {
  const at = document.activeElement, style = getComputedStyle(at);
  return {
    what: at.tagName.toLowerCase(), text: at.textContent.trim().slice(0, 40),
    href: at.getAttribute("href"), label: at.getAttribute("aria-label"),
    seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    top: at.getBoundingClientRect().top + scrollY,
  };
})()
"""


def shown(browser: Chromium, page: Path, width: int, height: int, dark: bool = False) -> None:
    browser.events.clear()
    browser.screen(width, height, dark=dark)
    browser.open(page)


@pytest.mark.parametrize(("width", "height", "dark"), SCREENS)
def test_it_loads_one_file_and_complains_of_nothing(
    browser: Chromium, page: Path, keep: Keep, width: int, height: int, dark: bool
) -> None:
    shown(browser, page, width, height, dark)
    keep(f"{width}{'-dark' if dark else ''}.png", browser.screenshot())
    assert browser.loaded() == [page.as_uri()]
    assert browser.complaints() == []


@pytest.mark.parametrize(("width", "height", "dark"), SCREENS)
def test_every_chart_is_seen_once_whole_and_can_be_read(
    browser: Chromium, page: Path, width: int, height: int, dark: bool
) -> None:
    shown(browser, page, width, height, dark)
    charts: list[dict[str, Any]] = browser.evaluate(CHARTS)
    assert len(charts) == 8
    for chart in charts:
        assert chart["shown"] == 1
        assert chart["inside"] and chart["width"] > 250 and chart["height"] > 120, chart
        assert chart["paths"] >= 2, chart
        assert chart["text"] >= 9.5, chart
        assert chart["beyond"] == []


@pytest.mark.parametrize(("width", "height", "dark"), SCREENS)
def test_text_has_the_contrast_of_wcag_aa(
    browser: Chromium, page: Path, width: int, height: int, dark: bool
) -> None:
    shown(browser, page, width, height, dark)
    results = browser.evaluate(CONTRASTS)
    assert len(results) > 300
    assert [each for each in results if each[0] < 4.5] == []


@pytest.mark.parametrize("width", [320, 360, 620, 800, 1280], ids=str)
def test_the_page_is_never_wider_than_the_screen(browser: Chromium, page: Path, width: int) -> None:
    shown(browser, page, width, 740)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_is_dark_and_light_is_light(browser: Chromium, page: Path) -> None:
    grounds = []
    for dark in (False, True):
        shown(browser, page, *DESKTOP, dark)
        grounds.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    light, dark_ = (sum(map(int, each[4:-1].split(","))) for each in grounds)
    assert light > 600 > 100 > dark_


def test_a_phone_shows_a_labeled_card_per_model(browser: Chromium, page: Path) -> None:
    shown(browser, page, *PHONE)
    heads = browser.evaluate(
        '[...document.querySelectorAll("#best tbody tr:first-child td")].map('
        'cell => getComputedStyle(cell, "::before").content)'
    )
    assert '"Output, tok/s"' in heads
    assert '"TTFT p99, ms"' in heads
    details: list[tuple[str, float, float, float]] = browser.evaluate(
        """[...document.querySelectorAll(".cards td.n .detail")].map(detail => {
          const box = detail.getBoundingClientRect(), style = getComputedStyle(detail);
          return [detail.textContent, box.left, box.right, parseFloat(style.fontSize)];
        })"""
    )
    assert any(text.endswith(" off") for text, *_ in details)
    assert any(" to " in text for text, *_ in details)
    assert all(0 <= left < right <= PHONE[0] and font >= 12 for _, left, right, font in details)


def test_a_phone_stacks_the_table_of_all_runs_in_order_of_time(
    browser: Chromium, page: Path, keep: Keep
) -> None:
    shown(browser, page, 400, 740)
    rows: list[dict[str, Any]] = browser.evaluate(
        """[...document.querySelectorAll("#matrix tbody tr")].map(row => ({
          number: row.querySelector("th").textContent.trim(),
          ended: row.querySelector('[data-head="Ended, UTC"]').textContent,
          lines: new Set([...row.children].map(cell => cell.getBoundingClientRect().top)).size,
          cells: row.children.length,
          head: getComputedStyle(row.children[3], "::before").content,
          right: Math.max(...[...row.children].map(cell => cell.getBoundingClientRect().right)),
        }))"""
    )
    assert [row["number"] for row in rows] == [f"#{n + 1}" for n in range(len(rows))]
    assert [row["ended"] for row in rows] == sorted(row["ended"] for row in rows)
    assert all(row["lines"] == row["cells"] and row["right"] <= 400 for row in rows)
    assert {row["head"] for row in rows} == {'"Output, tok/s"'}
    keep("matrix-400.png", browser.screenshot())


def test_it_is_the_same_without_javascript(browser: Chromium, page: Path) -> None:
    shown(browser, page, *DESKTOP)
    usual = browser.screenshot()
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert browser.screenshot() == usual
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_keyboard_reaches_links_tables_and_details_in_their_order(
    browser: Chromium, page: Path
) -> None:
    shown(browser, page, *DESKTOP)
    stops: list[dict[str, Any]] = []
    for _ in range(400):
        browser.press("Tab")
        at = browser.evaluate(FOCUSED)
        if at["what"] == "body":
            break
        stops.append(at)
    assert stops[0]["text"] == "Skip to the figures"
    assert [stop["href"] for stop in stops[1:4]] == ["#best", "#quality", "#load-1"]
    assert len([stop for stop in stops if stop["what"] == "summary"]) == 7
    labels = {stop["label"] for stop in stops}
    assert {"All runs", "The Pareto front"} <= labels
    assert all(stop["seen"] for stop in stops), [stop for stop in stops if not stop["seen"]]


def test_enter_opens_a_charts_table(browser: Chromium, page: Path) -> None:
    shown(browser, page, *DESKTOP)
    browser.evaluate('document.querySelector("summary").focus()')
    table = 'document.querySelector("details table").getBoundingClientRect().height'
    browser.press("Enter")
    assert browser.evaluate('document.querySelector("details").open')
    assert browser.evaluate(table) > 100


def test_screen_readers_find_headings_tables_and_what_charts_say(
    browser: Chromium, page: Path
) -> None:
    shown(browser, page, *DESKTOP)
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    results = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    images = [name for role, name in results if role == "image"]
    assert len(images) == 8 and all(images)
    assert any("knee 8" in name for name in images)
    names = {name for role, name in results if role == "table"}
    assert {"All runs", "The best run of each model, by output tokens per second"} <= names
    assert ("heading", "Pareto front") in results
    assert ("rowheader", "gpt-oss-120b") in results


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_print_is_on_white_with_everything_but_the_navigation(
    browser: Chromium, page: Path, keep: Keep, tmp_path: Path, dark: bool
) -> None:
    shown(browser, page, *DESKTOP, dark)
    pdf = tmp_path / "page.pdf"
    pdf.write_bytes(browser.pdf())
    keep(f"print{'-dark' if dark else ''}.pdf", pdf.read_bytes())
    printed = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True)
    pages = printed.stdout.split("\f")[:-1]
    assert 3 <= len(pages) <= 8
    for text in ("Best of each model", "knee 8", "16 http_500", "All runs", "Provenance"):
        assert text in printed.stdout
    assert "Skip to the figures" not in printed.stdout
    browser.screen(794, 1123, dark=dark, media="print")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    charts = browser.evaluate(CHARTS)
    assert all(chart["shown"] == 1 and chart["text"] >= 9 for chart in charts), charts

"""Vega-Lite specifications to SVG that fits the page."""

import re
from collections.abc import Callable

from markupsafe import Markup
from msgspec import Struct

from spark_bench.printable import printable
from spark_bench.report.charts.theme import Layout, Spec, vega_config
from spark_bench.report.page_table import Table

_FONT = re.compile(r' font-family="[^"]*"')
_ROOT = re.compile(r"<svg [^>]*?viewBox=\"0 0 [\d.]+ ([\d.]+)\"[^>]*>")
_LABELLED = re.compile(
    r"<path aria-label=\"(?P<label>[^\"]*)\" role=\"[^\"]*\""
    r" aria-roledescription=\"[^\"]*\"(?P<rest>[^>]*)/>"
)


class Legend(Struct, frozen=True):
    """A legend entry; index: of its color; dot: its character, "" for a line."""

    name: str
    index: int
    dot: str = ""


class Chart(Struct, frozen=True):
    """A chart: drawn for wide and narrow screens, as text, and as a table.

    legend: shown where curves have no room for names; always: shown everywhere
    """

    title: str
    subtitle: str
    alt: str
    svg: Markup
    table: Table
    legend: tuple[Legend, ...] = ()
    always: bool = False
    note: str = ""


def draw_chart(make: Callable[[Layout], Spec], alt: str, *layouts: Layout) -> Markup:
    """Render the chart in each layout; CSS shows the one that fits."""
    return Markup("").join(_svg(make(layout) | _frame(layout), alt, layout) for layout in layouts)


def _frame(layout: Layout) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": None,
        "padding": {"left": 0, "right": 0, "top": 6, "bottom": 2},
        "config": vega_config(layout),
    }


def _svg(spec: Spec, alt: str, layout: Layout) -> Markup:
    import vl_convert

    text = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    root = _ROOT.search(text)
    assert root, "Vega gave no SVG"
    # All charts of a layout have the same width, so that the page scales them and their text alike.
    opened = Markup('<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {} {}">').format(
        layout.name, printable(alt), layout.total, root[1]
    )
    body = _FONT.sub("", printable(text[root.end() :], lines=True))
    # Browsers show a title on hover without any script; Vega writes an aria-label instead.
    body = _LABELLED.sub(r"<path\g<rest>><title>\g<label></title></path>", body)
    return opened + Markup(body)

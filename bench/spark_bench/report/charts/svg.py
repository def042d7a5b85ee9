"""What all charts share: colors, sizes, the config of Vega-Lite, and drawing as SVG for a page."""

from collections.abc import Callable
from typing import Any, Final
from xml.etree import ElementTree

from markupsafe import Markup
from msgspec import Struct

from spark_bench.printable import printable
from spark_bench.report.page_table import Table

Spec = dict[str, Any]

INK: Final = "var(--ink)"
MUTED: Final = "var(--muted)"
GRID: Final = "var(--grid)"
GROUND: Final = "var(--ground)"
COLORS: Final = 8
# Besides its color each curve has its own dots, for eyes and printers without color.
SHAPES: Final = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "triangle-left",
    "triangle-right",
)
SIGNS: Final = "●■▲◆▼✚◀▶"
DASH: Final = (5, 3)
FONT: Final = 12

_SVG = "http://www.w3.org/2000/svg"


class Layout(Struct, frozen=True):
    """Sizes in CSS pixels: the plot and its margins. labels: curves are named on the right."""

    name: str
    width: int
    height: int
    left: int
    right: int
    labels: bool

    @property
    def total(self) -> int:
        return self.left + self.width + self.right


# Half of the page's width on a desktop, and a phone's whole width.
WIDE: Final = Layout("wide", width=354, height=220, left=48, right=146, labels=True)
# The same without names next to the plot, for curves that end together.
PLAIN: Final = Layout("wide", width=482, height=220, left=48, right=18, labels=False)
NARROW: Final = Layout("narrow", width=272, height=210, left=44, right=14, labels=False)
# The timeline takes the page's whole width.
BROAD: Final = Layout("wide", width=904, height=110, left=48, right=144, labels=True)
SLIM: Final = Layout("narrow", width=272, height=100, left=44, right=14, labels=False)


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


def color(index: int) -> str:
    """The color of an index; those beyond the palette share one."""
    return f"var(--s{index + 1 if index < COLORS else 0})"


def dot_shape(index: int) -> str:
    """The shape of an index's dots."""
    return SHAPES[index % len(SHAPES)]


def dot_sign(index: int) -> str:
    """The same shape as a character."""
    return SIGNS[index % len(SIGNS)]


def draw_chart(make: Callable[[Layout], Spec], alt: str, *layouts: Layout) -> Markup:
    """Render the chart in each layout; CSS shows the one that fits."""
    import vl_convert

    ElementTree.register_namespace("", _SVG)
    drawn = []
    for layout in layouts:
        spec = make(layout) | {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "background": None,
            "padding": {"left": 0, "right": 0, "top": 6, "bottom": 2},
            "config": vega_config(layout),
        }
        text = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
        root = ElementTree.fromstring(printable(text, lines=True))
        # All charts of a layout have the same width: the page scales them and their text alike.
        box = f"0 0 {layout.total} {root.attrib['viewBox'].split()[3]}"
        root.attrib.clear()
        root.attrib |= {"class": layout.name, "role": "img", "aria-label": printable(alt)}
        root.attrib["viewBox"] = box
        for element in root.iter():
            # The page's own font.
            element.attrib.pop("font-family", None)
            # Browsers show a title on hover without any script; Vega writes an aria-label instead.
            if element.tag == f"{{{_SVG}}}path" and "aria-label" in element.attrib:
                title = ElementTree.SubElement(element, f"{{{_SVG}}}title")
                title.text = element.attrib.pop("aria-label")
                for name in ("role", "aria-roledescription"):
                    element.attrib.pop(name, None)
        drawn.append(ElementTree.tostring(root, encoding="unicode"))
    return Markup("").join(map(Markup, drawn))


def vega_config(layout: Layout) -> Spec:
    """Vega-Lite's config. Text is measured in one font and set in the page's, so it leaves room."""
    text = {"labelColor": MUTED, "titleColor": MUTED, "labelFontSize": FONT, "titleFontSize": FONT}
    return {
        "aria": False,
        "view": {"stroke": None},
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "domainColor": GRID,
            "tickColor": GRID,
            "gridColor": GRID,
            "labelPadding": 5,
            "labelOverlap": "greedy",
        },
        "axisX": {
            "labelSeparation": 8,
            "grid": False,
            "titleAnchor": "end",
            "titlePadding": 8,
            "labelFlush": False,
        },
        "axisY": {
            "domain": False,
            "ticks": False,
            "minExtent": layout.left,
            "maxExtent": layout.left,
        },
        "title": {"anchor": "start", "fontSize": FONT, "fontWeight": 600, "color": INK},
    }

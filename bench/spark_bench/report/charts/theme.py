"""What all charts share: colors, sizes, axes."""

from typing import Any, Final

from msgspec import Struct

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


def color(index: int) -> str:
    """The color of an index; those beyond the palette share one."""
    return f"var(--s{index + 1 if index < COLORS else 0})"


def dot_shape(index: int) -> str:
    """The shape of an index's dots."""
    return SHAPES[index % len(SHAPES)]


def dot_sign(index: int) -> str:
    """The same shape as a character."""
    return SIGNS[index % len(SIGNS)]


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

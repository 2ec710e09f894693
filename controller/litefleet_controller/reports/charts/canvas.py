"""A small drawing surface: collects shapes and texts with CSS classes, and returns SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from markupsafe import Markup
from rich.cells import cell_len

from ...catalogue.translate import translated, translated_cell
from ...common.text import sanitize
from .scale import Axis, tick_label

WIDTH = 460
LEFT, RIGHT, BOTTOM = 54, 446, 22  # edges of the plot; BOTTOM is counted from the lower edge
_TITLE, _LEGEND = 28, 16
_COLOUR = re.compile("--([a-z]+): (#[0-9a-f]{6});")

Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """One finished chart; `body` is safe markup of `WIDTH` times `height` units."""

    title: str
    height: int
    body: Markup

    def inline(self) -> Markup:
        """Return the chart as an element for a page."""
        return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, self.height, self.title, self.body
        )


class Canvas:
    """Collects shapes; coordinates are in units of the picture, the origin is at the upper left.

    `plot` is the height of the plot; `legend` names the kinds a, b, ... in a line of its own, if there are at least two.
    """

    def __init__(self, plot: float, title: str, legend: Sequence[str] = ()) -> None:
        self.top = _TITLE + (_LEGEND if len(legend) > 1 else 0)
        self.height, self._title = round(self.top + plot + BOTTOM), translated_cell(sanitize(title, 120))
        self._parts: list[Markup] = []
        self.text(0, 14, title, "title")
        if len(legend) > 1:
            self._legend(legend)

    @property
    def floor(self) -> float:
        """The lower edge of the plot."""
        return self.height - BOTTOM

    def done(self) -> Chart:
        """Return the finished chart."""
        return Chart(self._title, self.height, Markup("").join(self._parts))

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Write one line, cleaned, translated and escaped; `anchor` is start, middle or end; a `name` is not translated."""
        shown = sanitize(text, 120) if kind == "name" else translated_cell(sanitize(text, 120))
        self._add('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>', kind, x, y, anchor, shown)

    def line(self, start: Point, end: Point, kind: str) -> None:
        """Draw a straight line."""
        self._add('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>', kind, *start, *end)

    def path(self, points: Sequence[Point], kind: str) -> None:
        """Draw a line through points; a single one becomes a dot."""
        if len(points) == 1:
            self.dot(points[0], 2, kind)
        elif points:
            self._add('<polyline class="line {}" points="{}"/>', kind, _points(points))

    def area(self, upper: Sequence[Point], lower: Sequence[Point], kind: str) -> None:
        """Fill the area between two lines of equal length."""
        if len(upper) > 1:
            self._add('<polygon class="area {}" points="{}"/>', kind, _points([*upper, *reversed(lower)]))

    def rect(self, x: float, y: float, width: float, height: float, kind: str, title: str = "") -> None:
        """Draw a rectangle, with a title that a pointer shows."""
        tooltip = Markup("<title>{}</title>").format(translated(sanitize(title, 200))) if title else Markup("")
        shape = '<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>'
        self._add(shape, kind, _round(x), _round(y), _round(max(width, 0)), _round(max(height, 0)), tooltip)

    def dot(self, at: Point, radius: float, kind: str, title: str = "") -> None:
        """Draw a filled circle."""
        tooltip = Markup("<title>{}</title>").format(translated(sanitize(title, 200))) if title else Markup("")
        self._add('<circle class="spot {}" cx="{}" cy="{}" r="{}">{}</circle>', kind, *at, radius, tooltip)

    def upward(self, axis: Axis, count: int = 4) -> None:
        """Draw the grid and the labels of a vertical axis."""
        for tick in axis.ticks_about(count):
            self.line((LEFT, axis.at(tick)), (RIGHT, axis.at(tick)), "grid")
            self.text(LEFT - 6, axis.at(tick) + 4, tick_label(tick), "", "end")

    def _add(self, form: str, *values: object) -> None:
        self._parts.append(Markup(form).format(*values))  # noqa: S704 - our own forms; format escapes the values

    def _legend(self, names: Sequence[str]) -> None:
        x = float(LEFT)
        for kind, name in zip("abcd", names, strict=False):
            self.rect(x, 23, 9, 9, f"box {kind}")
            self.text(x + 13, 31, name)
            x += 13 + 7.2 * cell_len(translated_cell(sanitize(name, 40))) + 14


def _round(value: float) -> float:
    return round(value, 1)


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


@cache
def asset(name: str) -> str:
    """Return the text of a file in `reports/templates/`."""
    return (resources.files("litefleet_controller.reports") / "templates" / name).read_text(encoding="utf-8")


def svg_document(title: str, width: float, height: float, parts: Sequence[Markup]) -> str:
    """Return an SVG file with parts of safe markup on a background, for light and for dark viewers."""
    form = (
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">'
        '<title>{title}</title><style>{style}</style><rect class="ground" width="{w}" height="{h}"/>{body}</svg>\n'
    )
    body = Markup("").join(parts)
    return str(
        Markup(form).format(w=width, h=height, title=title, style=_style(), body=body)  # noqa: S704 - format escapes
    )


@cache
def _style() -> Markup:
    """Return the pictures' own style with the colours written out: not every viewer knows variables."""
    rules = asset("chart.css")
    light, dark = (_coloured(rules, colours) for colours in _colours())
    return Markup(f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")  # noqa: S704 - our own file


def _colours() -> tuple[dict[str, str], dict[str, str]]:
    """Return the page's colours by name, on a light and on a dark background."""
    light, dark = re.findall(r":root \{(.*?)\}", asset("report.css"), re.DOTALL)[:2]
    return dict(_COLOUR.findall(light)), dict(_COLOUR.findall(dark))


def _coloured(rules: str, colours: dict[str, str]) -> str:
    return re.sub(r"var\(--([a-z]+)\)", lambda found: colours[found[1]], rules)

"""Draws the push of all tools side by side from the figures of `make bench`, which also a cut run leaves.

python -m bench.pictures FILE FOLDER      # writes push-wall.svg and push-cpu.svg, for docs/performance.md
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from litefleet_controller.reports.charts.canvas import WIDTH, Canvas, svg_document
from litefleet_controller.reports.charts.scale import axis_from_zero, tick_label
from markupsafe import Markup

from bench.results import Figures, Pushes, Results, all_cpu

_ROW, _MARGIN, _LEFT = 21, 20, 150


class Picture(NamedTuple):
    """A file, its title, and the figure of one measured process."""

    name: str
    title: str
    value: Callable[[Figures], float]


PICTURES = (
    Picture("push-wall.svg", "{what}, {count} devices: seconds", lambda figures: float(figures["wall"])),
    Picture(
        "push-cpu.svg",
        "{what}, {count} devices: CPU seconds of the operator's machine",
        all_cpu,
    ),
)


def chart(title: str, values: dict[str, float]) -> Canvas:
    """Draw one bar for each tool, litefleet's own in the accent colour, smallest first."""
    canvas = Canvas(_ROW * len(values), title)
    across = axis_from_zero([0.0, *values.values()], _LEFT, WIDTH - 50, log_from=float("inf"))
    for tick in across.ticks_about(5):
        canvas.line((across.at(tick), canvas.top), (across.at(tick), canvas.floor), "grid")
        canvas.text(across.at(tick), canvas.floor + 15, tick_label(tick), "", "middle")
    for number, (tool, value) in enumerate(sorted(values.items(), key=lambda pair: pair[1])):
        y = canvas.top + number * _ROW + 3
        kind = "a" if tool.startswith("litefleet") else "b"
        canvas.text(_LEFT - 8, y + 12, tool, "name", "end")
        canvas.rect(_LEFT, y, across.at(value) - _LEFT, 14, f"box {kind}", f"{tool}: {value:.2f} s")
        canvas.text(across.at(value) + 6, y + 12, f"{value:.2f}", "value")
    return canvas


def document(picture: Picture, pushes: dict[int, Pushes]) -> str:
    """Return one picture: a chart of the full push and of the no-op for each fleet size, one below the other."""
    parts, y = [], float(_MARGIN)
    for count, tools in pushes.items():
        for place, what in enumerate(("5 MB pushed", "Nothing to do")):
            values = {tool: statistics.median(map(picture.value, found[place])) for tool, found in tools.items()}
            done = chart(picture.title.format(what=what, count=count), values).done()
            parts.append(Markup('<g transform="translate({},{})">{}</g>').format(_MARGIN, y, done.body))
            y += done.height + 18
    return svg_document(picture.name, WIDTH + 2 * _MARGIN, y, parts)


def main() -> None:
    """Read the figures, write the pictures."""
    pushes, folder = Results.read(Path(sys.argv[1])).pushes, Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        (folder / picture.name).write_text(document(picture, pushes), encoding="utf-8")


if __name__ == "__main__":
    main()

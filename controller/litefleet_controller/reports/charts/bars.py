"""Draws throughput by workers and threads, and the stages of a cold start."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.cells import cell_len

from ...bench.figures import Cell, ReleaseFigures, Start
from ...catalogue.translate import tr, translated_cell
from ..values import human_bytes, human_ms
from .canvas import LEFT, RIGHT, WIDTH, Canvas, Chart
from .scale import Axis, number_text, tick_label

_PARTS = (("process_ms", "interpreter"), ("import_ms", "import"), ("load_ms", "load"), ("first_run_ms", "first run"))
_PLOT = 136
_WIDEST = 46
_ROW = 24


def throughput(cells: Sequence[Cell], names: Sequence[str]) -> Chart | None:
    """Return a chart with a bar for each cell, grouped by threads; the bars of two releases are side by side."""
    if not any(cell.runs_per_s for cell in cells):
        return None
    canvas = Canvas(_PLOT, "Throughput (runs a second), by workers and threads", names)
    up = Axis(0.0, max(cell.runs_per_s or 0.0 for cell in cells) * 1.12, canvas.floor - 16, canvas.top)
    canvas.upward(up)
    groups = _groups(cells)
    slots = sum(len(columns) for columns in groups.values()) + 0.6 * (len(groups) - 1)
    step = (RIGHT - LEFT) / slots
    x = float(LEFT)
    for threads, columns in groups.items():
        middle = x + step * len(columns) / 2
        canvas.text(middle, canvas.floor + 16, tr("workers, {threads} each", threads=_threads(threads)), "", "middle")
        for workers, together in columns.items():
            _column(canvas, up, x + step / 2, step, workers, together)
            x += step
        x += 0.6 * step
    return canvas.done()


def _groups(cells: Sequence[Cell]) -> dict[int, dict[int, list[Cell]]]:
    """Return the cells by threads and workers, in the order in which they were measured."""
    groups: dict[int, dict[int, list[Cell]]] = {}
    for cell in cells:
        groups.setdefault(cell.threads, {}).setdefault(cell.workers, []).append(cell)
    return groups


def _threads(threads: int) -> str:
    if not threads:
        return tr("usual threads")
    return tr("1 thread") if threads == 1 else tr("{count} threads", count=threads)


def _column(canvas: Canvas, up: Axis, middle: float, step: float, workers: int, cells: Sequence[Cell]) -> None:
    """Draw the bars of one number of workers."""
    wide = min(_WIDEST, step * 0.84 / len(cells))
    left = middle - wide * len(cells) / 2
    canvas.text(middle, canvas.floor, str(workers), "name", "middle")
    for number, cell in enumerate(cells):
        x, kind = left + number * wide, "ab"[number % 2]
        if cell.runs_per_s is None:
            canvas.text(x + wide / 2, canvas.floor - 20, "–", "", "middle")
            continue
        top = up.at(cell.runs_per_s)
        canvas.rect(x + 1, top, wide - 2, canvas.floor - 16 - top, f"box {kind}", _about(cell))
        if wide >= 26:
            canvas.text(x + wide / 2, top - 4, number_text(cell.runs_per_s), "value", "middle")


def _about(cell: Cell) -> str:
    rate, threads = number_text(cell.runs_per_s or 0), _threads(cell.threads)
    measured = tr("{count} at once, {threads}: {rate} runs/s", count=cell.workers, threads=threads, rate=rate)
    if cell.latency is not None:
        measured += f", p50 {human_ms(cell.latency.p50)}, p99 {human_ms(cell.latency.p99)}"
    return measured + (tr(", {count} CPUs busy", count=f"{cell.cores:.2g}") if cell.cores else "")


def cold_starts(releases: Sequence[ReleaseFigures], names: Sequence[str]) -> Chart | None:
    """Return what the time until the first answer is made of: for the first start, and for a usual one after it."""
    rows = [
        row
        for measured, name in zip(releases, names, strict=False)
        for row in _starts(measured, name if len(names) > 1 else "")
    ]
    if not rows:
        return None
    canvas = Canvas(_ROW * len(rows), "Cold start (ms), until the first answer", [word for _, word in _PARTS])
    left = max(cell_len(label) for label, _ in rows) * 7.7 + 10
    across = Axis(0.0, max(start.total_ms for _, start in rows) * 1.02 or 1.0, left, WIDTH - 66)
    for tick in across.ticks_about(4):
        canvas.line((across.at(tick), canvas.top), (across.at(tick), canvas.floor), "grid")
        canvas.text(across.at(tick), canvas.floor + 15, tick_label(tick), "", "middle")
    for number, (label, start) in enumerate(rows):
        _start(canvas, across, canvas.top + number * _ROW + 3, label, start)
    return canvas.done()


def _starts(measured: ReleaseFigures, name: str) -> list[tuple[str, Start]]:
    rows = []
    if measured.cold.first is not None:
        rows.append((tr("first"), measured.cold.first))
    if measured.cold.again:
        usual = median(start.total_ms for start in measured.cold.again)
        rows.append((tr("again"), min(measured.cold.again, key=lambda start: abs(start.total_ms - usual))))
    return [(f"{name} {label}".strip(), start) for label, start in rows]


def _start(canvas: Canvas, across: Axis, y: float, label: str, start: Start) -> None:
    canvas.text(across.start - 8, y + 13, label, "name", "end")
    at = 0.0
    for kind, (part, word) in zip("abcd", _PARTS, strict=True):
        ms = getattr(start, part)
        x = across.at(at)
        canvas.rect(x, y, across.at(at + ms) - x, 17, f"box {kind}", f"{label}: {translated_cell(word)} {human_ms(ms)}")
        at += ms
    read = tr("; {amount} read from storage", amount=human_bytes(start.read_bytes)) if start.read_bytes else ""
    canvas.text(across.at(at) + 6, y + 13, human_ms(start.total_ms), "value")
    canvas.rect(
        across.start, y, across.at(at) - across.start, 17, "touch", f"{label}: {human_ms(start.total_ms)}{read}"
    )

"""Shows the progress of a run on stderr: a live display on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from litefleet_agent.findings import Verdict
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..catalogue.language import in_lang
from ..catalogue.translate import translated, translated_cell, translated_sentence
from ..common.text import LINE_LIMIT, sanitize
from ..devices.outcome import DeviceOutcome
from ..devices.progress import Progress, QuietProgress, _Context
from .terminal import STYLES, counted, short_reason
from .values import human_seconds

__all__ = ["LineProgress", "LiveProgress", "Progress", "QuietProgress", "make_progress"]

_WAITS = "wait"  # how the name of a step begins in which a device only waits
_SHOWN = 8  # most devices that the live display lists


class LineProgress(_Context):
    """One plain line per finished device, for logs and pipes."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total, self._stream = total, stream if stream is not None else sys.stderr
        self._done: set[tuple[str, str]] = set()  # (device, model); a retried one counts once

    def expect(self, total: int) -> None:
        """Restart the count with a new total."""
        self._total, self._done = total, set()

    def device_step(self, device: str, step: str) -> None:
        """Print nothing: a log has outcomes only."""

    def device_done(self, outcome: DeviceOutcome) -> None:
        """Write "[3/40] cam-03 verified: outputs match the reference"."""
        self._done.add((outcome.device, outcome.model))
        done = len(self._done)
        self.message(f"[{done}/{max(done, self._total)}] {outcome_line(outcome)}")

    def message(self, text: str) -> None:
        """Write one line."""
        line = translated(sanitize(text, 1000))
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        # A Chinese name must not end the run when the log's locale is C.
        self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._stream.flush()


def outcome_line(outcome: DeviceOutcome) -> str:
    """Return "cam-03 verified: outputs match the reference"."""
    sentence = sanitize(outcome.sentence, LINE_LIMIT)
    short = short_reason(outcome)
    why = translated_sentence(sentence)
    why = why if sentence.startswith(short) else f"{short}（{why}）"
    colon = in_lang(": ", "：") if why else ""
    return f"{sanitize(outcome.device, 80)} {translated_cell(outcome.verdict.value)}{colon}{why}"


class LiveProgress:
    """A bar, the counts by verdict and the devices at work, redrawn in place; for a terminal only.

    `clock` returns seconds.
    """

    def __init__(self, total: int, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console if console is not None else Console(stderr=True, markup=False, highlight=False)
        self._total, self._clock, self._started = total, clock, clock()
        self._active: dict[str, tuple[str, float]] = {}  # device -> step, when the step began; oldest first
        self._waiting: set[str] = set()
        self._verdicts: dict[tuple[str, str], Verdict] = {}  # latest, by (device, model): a retried one counts once
        self._live = Live(
            get_renderable=self.render,
            console=self._console,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def expect(self, total: int) -> None:
        """Restart the bar with a new total."""
        self._total, self._verdicts = total, {}

    def device_step(self, device: str, step: str) -> None:
        """Show the device's step and restart its seconds; a device that waits is only counted."""
        self._active.pop(device, None)
        self._waiting.discard(device)
        if step.startswith(_WAITS):
            self._waiting.add(device)
        elif step:
            self._active[device] = (step, self._clock())

    def device_done(self, outcome: DeviceOutcome) -> None:
        """Count the device; one that is not verified stays readable above the display."""
        self._active.pop(outcome.device, None)
        self._waiting.discard(outcome.device)
        self._verdicts[outcome.device, outcome.model] = outcome.verdict
        if outcome.verdict is not Verdict.VERIFIED:
            self._console.print(Text(outcome_line(outcome), STYLES[outcome.verdict]))

    def message(self, text: str) -> None:
        """Print a line above the display."""
        self._console.print(Text(translated(sanitize(text, 1000))))

    def render(self) -> RenderableType:
        """Return the display as of now."""
        done = len(self._verdicts)
        total = max(self._total, done)
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(total, 1), completed=done, width=min(30, self._console.width // 3)),
            Text(f"{done:,}/{total:,}"),
            self._tally(),
            Text(human_seconds(self._clock() - self._started), "dim"),
        )
        at_work = Table.grid(padding=(0, 2))
        # The longest at work first, so that a hanging device is shown.
        for device, (step, since) in sorted(list(self._active.items()), key=lambda item: item[1][1])[:_SHOWN]:
            took = human_seconds(self._clock() - since)
            at_work.add_row(Text("  " + sanitize(device, 40)), Text(translated(sanitize(step, 40))), Text(took, "dim"))
        more = len(self._active) - _SHOWN
        notes = [f"  and {more:,} more at work"] if more > 0 else []
        notes += [f"  {len(self._waiting):,} waiting for their turn"] if self._waiting else []
        return Group(head, at_work, *(Text(translated(note), "dim") for note in notes))

    def _tally(self) -> Text:
        line, counts = Text(no_wrap=True, overflow="ellipsis"), Counter(self._verdicts.values())
        for verdict in Verdict:
            if counts[verdict]:
                line.append(" · " if line.plain else "")
                line.append(counted(counts[verdict], verdict.value), STYLES[verdict])
        return line


def make_progress(total: int, quiet: bool = False) -> Progress:
    """Return the display for stderr: live on a terminal, lines elsewhere, none with `quiet`."""
    if quiet:
        return QuietProgress()
    console = Console(stderr=True, markup=False, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(total, console)
    return LineProgress(total)
